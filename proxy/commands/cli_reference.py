"""The command line as a page of Markdown: `docs/cli.md`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

_HEAD = """\
# The command line

<!-- Made by `make docs` from proxy/cli.py. Change that. -->

`penstock COMMAND --help` says the same.

| exit | |
|---|---|
| 0 | done; of `ask` also that the answer was whole |
| 1 | not so: an answer that was not whole, a name that means no model, a failure that `doctor`\
 found, requests that still run after `drain`, a file that is no capture |
| 2 | a slip on the command line |
| 69 | nobody is reached there, or the address cannot be had |
| 78 | the configuration is refused; each problem is told with line, column and path |
| 130 | Ctrl-C, but for `serve`, which then drains |
"""

_DEFAULT = re.compile(r"%\(default\)s")


def page(parser: argparse.ArgumentParser) -> str:
    """The page: a row for each command, then a section for each."""
    commands = _commands(parser)
    listed = (f"| [`{name}`](#{_anchor(parser, name)}) | {text} |\n" for name, text, _ in commands)
    table = "| command | |\n|---|---|\n" + "".join(listed)
    sections = (_section(f"{parser.prog} {name}", text, each) for name, text, each in commands)
    return "\n".join((_HEAD, table, *sections))


def _commands(
    parser: argparse.ArgumentParser,
) -> list[tuple[str, str, argparse.ArgumentParser]]:
    """Each command: its name, what it does, its own parser."""
    (group,) = (
        action for action in _actions(parser) if isinstance(action, argparse._SubParsersAction)
    )
    texts = {each.dest: each.help or "" for each in group._get_subactions()}
    return [(name, texts[name], each) for name, each in group.choices.items()]


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    # argparse has no public way to ask a parser what it takes, and has had this one since 2.7.
    return parser._actions


def _anchor(parser: argparse.ArgumentParser, name: str) -> str:
    return f"{parser.prog}-{name}"


def _section(title: str, text: str, parser: argparse.ArgumentParser) -> str:
    described = parser.description or f"{text[:1].upper()}{text[1:]}."
    lines = [f"## {title}", "", described, "", "```text", _usage(title, parser), "```", ""]
    rows = [_row(action) for action in _asked(parser)]
    return "\n".join([*lines, "| | |", "|---|---|", *rows, ""])


def _asked(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """What the command takes, `--help` apart."""
    return (action for action in _actions(parser) if action.dest != "help")


def _usage(title: str, parser: argparse.ArgumentParser) -> str:
    """The command with everything it must be given, and a word for the rest."""
    actions = list(_asked(parser))
    needed = [_said(action) for action in actions if action.required]
    is_more = any(not action.required for action in actions)
    return " ".join([title, *(["[OPTIONS]"] if is_more else []), *needed])


def _row(action: argparse.Action) -> str:
    text = _DEFAULT.sub(str(action.default), action.help or "")
    return f"| `{_said(action)}` | {text.replace('|', chr(92) + '|')} |"


def _said(action: argparse.Action) -> str:
    """How it is said on the command line."""
    flag = action.option_strings[-1] if action.option_strings else ""
    return " ".join(filter(None, (flag, _value(action))))


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    name = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if action.choices is not None:
        name = ",".join(map(str, action.choices)).join("{}")
    return f"[{name}]" if action.nargs == "?" else name
