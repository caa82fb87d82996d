"""The log: lines, whatever they are made of."""

from __future__ import annotations

import io

import msgspec
import pytest

from parsers.events import Fault, FaultKind
from proxy.log import Log
from proxy.outcome import Account, Outcome
from proxy.request_line import request_line


@pytest.mark.parametrize("odd", ["/etc/\udcff.jsonc", 10**400, object()])
def test_what_json_cannot_say_costs_no_other_line(odd: object) -> None:
    written = io.BytesIO()
    log = Log(written)

    log.write("config", reason=odd)
    log.write("listening")
    log.flush()

    events = [msgspec.json.decode(line)["event"] for line in written.getvalue().splitlines()]
    assert events == ["config", "listening"]


class Terminal(io.BytesIO):
    """What says of itself that somebody reads it."""

    def isatty(self) -> bool:
        """It does."""
        return True


def test_on_a_terminal_a_line_is_for_people_and_cannot_command_it() -> None:
    shown = Terminal()
    log = Log(shown)

    log.write("config", file="a\x1b[2J.jsonc", models=2, reason=None)
    log.write("log", message="failed", traceback="Traceback:\n  File\x07")
    log.flush()

    first, *others = shown.getvalue().decode().splitlines()
    assert first[9:] == "config   file='a\\x1b[2J.jsonc' models=2"
    assert [others[0][9:], *others[1:]] == [
        "log      message=failed",
        "Traceback:",
        "'  File\\x07'",
    ]


def test_on_a_terminal_a_request_is_told_by_its_ending_first() -> None:
    shown = Terminal()
    log = Log(shown)
    account = Account(request_id="r1", started=1.0, model="lab/m", client="ci", attempts=2)
    account.endpoint, account.status = "gpu-0:80", 502
    account.settle(
        Outcome.TRUNCATED, Fault(FaultKind.TRUNCATED, "upstream", "broke off\r\n"), now=2.5
    )

    log.write_later("request", lambda: request_line(account))
    log.flush()

    line = shown.getvalue().decode()
    assert line[9:] == (
        "request  truncated 502   1.500 s  lab/m at gpu-0:80 for ci attempts 2"
        " 'upstream truncated: broke off\\r\\n' [r1]\n"
    )


def test_on_a_terminal_a_request_that_cannot_be_told_costs_no_other_line() -> None:
    shown = Terminal()
    log = Log(shown)
    account = Account(request_id="r1", started=1.0)
    fault = Fault(FaultKind.UPSTREAM, "upstream", "half a character: \udcff")
    account.settle(Outcome.UPSTREAM_ERROR, fault, now=2.0)

    log.write_later("request", lambda: request_line(account))
    log.write("listening")
    log.flush()

    first, second = shown.getvalue().decode().splitlines()
    assert first[9:].startswith("request  unencodable=")
    assert second[9:].startswith("listening")
