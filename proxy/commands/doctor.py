"""`penstock doctor`: asks the model servers of a configuration, and says what to do about them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TextIO

import msgspec

from proxy.commands.files import refused, registry_of
from proxy.config.problems import ConfigError
from proxy.doctor import Examination, Examined, Level, Target, each_address, targets
from proxy.transport import client_tls

EX_USAGE = 2

_SIGNS = {Level.OK: "ok     ", Level.WARNING: "warning", Level.FAILURE: "FAILURE"}


class Options(msgspec.Struct, frozen=True):
    """What the command line says; `provider` None means all of them."""

    file: Path
    provider: str | None = None
    as_json: bool = False
    slow: bool = False


def doctor(options: Options, out: TextIO, err: TextIO) -> int:
    """Write what was found; 0 if no request need fail for it, 1 otherwise, 78 for a bad file."""
    try:
        registry = registry_of(options.file)
    except ConfigError as error:
        return refused(options.file, error, err)
    chosen = targets(registry, options.provider)
    if not chosen:
        err.write("penstock doctor: no model is served by such a provider\n")
        return EX_USAGE
    found = asyncio.run(_examined(chosen, slow=options.slow))
    is_well = all(each.is_well for each in found)
    if options.as_json:
        report = {"ok": is_well, "endpoints": found}
        out.write(msgspec.json.encode(report).decode() + "\n")
    else:
        out.write("\n".join(map(_text, found)))
    return 0 if is_well else 1


async def _examined(chosen: list[Target], *, slow: bool) -> list[Examined]:
    """One endpoint after the other: their clocks are not to disturb each other."""
    tls = client_tls()
    return [
        await Examination(each, tls, slow=slow).run()
        for target in chosen
        for each in await each_address(target)
    ]


def _text(examined: Examined) -> str:
    model = f", asked for {examined.model}" if examined.model else ""
    lines = [f"{examined.provider} at {examined.endpoint}{model}"]
    for each in examined.findings:
        remedy = f"; {each.remedy}" if each.remedy else ""
        lines.append(f"  {_SIGNS[each.level]}  {each.check}: {each.message}{remedy}")
    if examined.wire:
        lines.append("  the one-token stream, read by read:")
    lines += [
        f"  {each.at * 1000:8.1f} ms {each.size:6d} bytes  {each.begins}" for each in examined.wire
    ]
    return "".join(f"{line}\n" for line in lines)
