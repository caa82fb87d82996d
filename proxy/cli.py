"""The command line: what may be said on it; what is then done is elsewhere."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
from collections.abc import Sequence
from math import inf
from pathlib import Path

from proxy import __version__, commands
from proxy.app import EX_UNAVAILABLE, Options, serve
from proxy.ask import ask
from proxy.commands.resolve import FEATURES
from proxy.demo import run_demo
from proxy.replay import replay

EX_INTERRUPTED = 130  # what a shell says of a program that Ctrl-C ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    options = parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return EX_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone: nothing is left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _version() -> str:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"penstock {__version__} ({python}, {platform.machine()})"


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="penstock", description="Streaming proxy for models.")
    parser.add_argument("--version", action="version", version=_version())
    names = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_serve(names.add_parser("serve", help="serve a configuration"))
    _add_drain(names.add_parser("drain", help="tell a running penstock to finish and leave"))
    _add_ask(names.add_parser("ask", help="stream one answer from a running penstock"))
    _add_demo(names.add_parser("demo", help="run the demo model server"))
    _add_replay(names.add_parser("replay", help="serve a capture as a model server"))
    _add_check(names.add_parser("check", help="say what is wrong with a configuration"))
    _add_doctor(names.add_parser("doctor", help="ask the model servers what would go wrong"))
    _add_resolve(names.add_parser("resolve", help="say which model a name means"))
    _add_show(names.add_parser("show", help="print a configuration with everything merged"))
    _add_diff(names.add_parser("diff", help="say what a new configuration would change"))
    _add_convert(names.add_parser("convert", help="print what a completions block means"))
    _add_rules(names.add_parser("rules", help="print rules for Prometheus from the objectives"))
    _add_schema(names.add_parser("schema", help="print the configuration's JSON Schema"))
    return parser


def _add_serve(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", type=Path, required=True, metavar="FILE", help="the configuration (JSONC)")
    add("--host", help="address for clients (default: the configuration's, else 127.0.0.1)")
    add("--port", type=int, help="port for clients (default: the configuration's, else 8080)")
    add("--admin-host", help="address for operators (default: 127.0.0.1)")
    add("--admin-port", type=int, help="port for operators (default: 9090)")
    add("--allow-anonymous", action="store_true", help="listen beyond loopback without keys")
    add("--drain-seconds", type=float, help="how long streams may finish (configuration, or 30)")
    add("--poll", action="store_true", help="look for changes of the file, do not wait for news")
    parser.set_defaults(run=_serve)


def _serve(options: argparse.Namespace) -> int:
    return serve(
        Options(
            config=options.config,
            host=options.host,
            port=options.port,
            admin_host=options.admin_host,
            admin_port=options.admin_port,
            allow_anonymous=options.allow_anonymous,
            drain_seconds=options.drain_seconds,
            poll=options.poll,
        )
    )


def _add_drain(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Tell a running penstock to finish what it does and take nothing new. There is no way back."
        " It goes on running, idle in the end, until SIGTERM."
    )
    add = parser.add_argument
    add("--admin", default="http://127.0.0.1:9090", metavar="URL", help="its admin address")
    add(
        "--wait",
        nargs="?",
        type=float,
        const=inf,
        default=0.0,
        metavar="SECONDS",
        help="return when nothing runs any more; not later than its deadline, or these seconds",
    )
    parser.set_defaults(run=_drain)


def _drain(options: argparse.Namespace) -> int:
    return commands.drain(options.admin, sys.stderr, wait_seconds=options.wait)


def _add_ask(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--url", default="http://127.0.0.1:8080", help="where penstock is (%(default)s)")
    add("--key", help="the client key")
    add("--model", help="the model (default: the first one listed)")
    add("--usage", action="store_true", help="also print the token counts")
    add("prompt", metavar="PROMPT")
    parser.set_defaults(run=_ask)


def _ask(options: argparse.Namespace) -> int:
    return ask(
        options.url,
        options.key,
        options.model,
        options.prompt,
        sys.stdout,
        sys.stderr,
        usage=options.usage,
    )


def _add_demo(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address (%(default)s)")
    add("--port", type=int, default=8081, help="port (%(default)s)")
    add("--pace", type=float, default=0.03, help="seconds per token (%(default)s)")
    add("--api-key", help="the key that callers must send")
    parser.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    try:
        asyncio.run(run_demo(options.host, options.port, options.pace, options.api_key))
    except OSError as error:
        print(f"penstock demo: {error.strerror}", file=sys.stderr)  # noqa: T201 - for a person
        return EX_UNAVAILABLE
    return 0


def _add_replay(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Serve what a model server answered in a capture: the same bytes, cut as they were cut, at"
        " the same pace. Put a penstock in front of it to see again what went wrong."
    )
    add = parser.add_argument
    add("capture", type=Path, metavar="CAPTURE", help="a file that penstock captured")
    add("--host", default="127.0.0.1", help="address (%(default)s)")
    add("--port", type=int, default=8082, help="port (%(default)s)")
    add("--pace", type=float, default=1.0, help="by how much slower, 0 at once (%(default)s)")
    parser.set_defaults(run=_replay)


def _replay(options: argparse.Namespace) -> int:
    try:
        return replay(options.capture, options.host, options.port, options.pace)
    except OSError as error:
        print(f"penstock replay: {error.strerror}", file=sys.stderr)  # noqa: T201 - for a person
        return EX_UNAVAILABLE


def _add_file(parser: argparse.ArgumentParser, name: str = "file") -> None:
    parser.add_argument(name, type=Path, metavar=name.upper(), help="a configuration (JSONC)")


def _add_check(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    parser.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    return commands.check(options.file, sys.stdout, as_json=options.json)


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Ask each endpoint as penstock would, and say what to do about it: three short questions"
        " each, some hundred tokens. No secret is printed."
    )
    _add_file(parser)
    add = parser.add_argument
    add("--provider", metavar="ID", help="only the endpoints of this provider")
    add("--json", action="store_true", help="as one JSON object")
    add("--slow", action="store_true", help="also how long idle connections are kept (minutes)")
    parser.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    told = commands.DoctorOptions(options.file, options.provider, options.json, options.slow)
    return commands.doctor(told, sys.stdout, sys.stderr)


def _add_resolve(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    add = parser.add_argument
    add("name", metavar="NAME", help="as a client says it; empty for the default")
    add("--feature", choices=FEATURES, default="chat", help="what is asked for (%(default)s)")
    add("--fast", action="store_true", help="a chat that asks to be fast")
    parser.set_defaults(run=_resolve)


def _resolve(options: argparse.Namespace) -> int:
    return commands.resolve(
        options.file,
        options.name,
        sys.stdout,
        sys.stderr,
        feature=options.feature,
        fast=options.fast,
    )


def _add_show(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print the configuration with everything merged, as JSON. Each secret is shown as ***: put"
        " the secrets back before it is loaded again, since two clients cannot have the same key."
    )
    _add_file(parser)
    parser.set_defaults(run=_show)


def _show(options: argparse.Namespace) -> int:
    return commands.show(options.file, sys.stdout, sys.stderr)


def _add_diff(parser: argparse.ArgumentParser) -> None:
    _add_file(parser, "old")
    _add_file(parser, "new")
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    parser.set_defaults(run=_diff)


def _diff(options: argparse.Namespace) -> int:
    return commands.diff(options.old, options.new, sys.stdout, sys.stderr, as_json=options.json)


def _add_convert(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    parser.set_defaults(run=_convert)


def _convert(options: argparse.Namespace) -> int:
    return commands.convert(options.file, sys.stdout, sys.stderr)


def _add_rules(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print Prometheus's rules for a configuration: the alerts that hold for any, and for each"
        " model with objectives (`slo`) how much of them is missed and two alerts for that."
    )
    _add_file(parser)
    parser.set_defaults(run=_rules)


def _rules(options: argparse.Namespace) -> int:
    return commands.rules(options.file, sys.stdout, sys.stderr)


def _add_schema(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--markdown", action="store_true", help="as docs/configuration.md")
    parser.set_defaults(run=_schema)


def _schema(options: argparse.Namespace) -> int:
    return commands.schema(sys.stdout.buffer, markdown=options.markdown)
