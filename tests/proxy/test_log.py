"""The log: lines, whatever they are made of."""

from __future__ import annotations

import io

import msgspec
import pytest

from proxy.log import Log


@pytest.mark.parametrize("odd", ["/etc/\udcff.jsonc", 10**400, object()])
def test_what_json_cannot_say_costs_no_other_line(odd: object) -> None:
    written = io.BytesIO()
    log = Log(written)

    log.write("config", reason=odd)
    log.write("listening")
    log.flush()

    events = [msgspec.json.decode(line)["event"] for line in written.getvalue().splitlines()]
    assert events == ["config", "listening"]
