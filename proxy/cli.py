"""The command line: serve, demo, ask, schema."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from proxy import __version__
from proxy.app import Options, serve
from proxy.ask import ask
from proxy.config import json_schema
from proxy.demo import run_demo
from proxy.providers import PROVIDERS

EX_INTERRUPTED = 130  # what a shell says of a program that Ctrl-C ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return EX_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone: nothing is left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="penstock", description="Streaming proxy for models.")
    parser.add_argument("--version", action="version", version=f"penstock {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_serve(commands.add_parser("serve", help="serve a configuration"))
    _add_ask(commands.add_parser("ask", help="stream one answer from a running penstock"))
    _add_demo(commands.add_parser("demo", help="run the demo model server"))
    schema = commands.add_parser("schema", help="print the configuration's JSON Schema")
    schema.set_defaults(run=_schema)
    return parser


def _add_serve(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", type=Path, required=True, metavar="FILE", help="the configuration (JSONC)")
    add("--host", help="address for clients (default: the configuration's, else 127.0.0.1)")
    add("--port", type=int, help="port for clients (default: the configuration's, else 8080)")
    add("--admin-host", help="address for operators (default: 127.0.0.1)")
    add("--admin-port", type=int, help="port for operators (default: 9090)")
    add("--allow-anonymous", action="store_true", help="listen beyond loopback without keys")
    add("--drain-seconds", type=float, default=30.0, help="how long streams may finish (30)")
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
    asyncio.run(run_demo(options.host, options.port, options.pace, options.api_key))
    return 0


def _schema(_: argparse.Namespace) -> int:
    settings = {name: kind.settings for name, kind in PROVIDERS.items()}
    sys.stdout.buffer.write(json_schema(settings))
    return 0
