"""A shell in which the commands of a page are run: penstock for real, on free ports.

The words of a page stay as they are, but for addresses: those of penstock become its own here, and
those of model servers a demo's. `deploy/` is a copy. What would touch a cluster, an engine, a
package index or the repository is only noted down, for the test to look at.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from shlex import quote

from tests.deploy.ports import free_ports
from tests.pages import ROOT, Block

MODEL_SERVERS = ("http://tgi:8080", "http://vllm:8000", "http://127.0.0.1:8081")
NOTED = ("docker", "git", "helm", "kubectl", "pip")

_PENSTOCK = """\
#!/bin/sh
# start NAME PATTERN ARGUMENTS…: in the background, until it says that it listens.
start() {
    name=$1 pattern=$2; shift 2
    [ -e "$LOGS/$name.pid" ] && kill "$(cat "$LOGS/$name.pid")" && rm "$LOGS/$name.pid"
    PYTHONUNBUFFERED=1 "$PYTHON" -m proxy "$@" >"$LOGS/$name" 2>&1 &
    echo $! >"$LOGS/$name.pid"
    until grep -qs "$pattern" "$LOGS/$name"; do
        kill -0 $! 2>/dev/null || { cat "$LOGS/$name"; exit 1; }
        sleep 0.05
    done
}
case $1 in
serve) start serve '"listening"' "$@" --port "$HTTP" --admin-port "$ADMIN" ;;
demo) start demo 'http://' "$@" --port "$DEMO" ;;
replay) start replay 'http://' "$@" --port "$REPLAY" ;;
ask) shift; exec "$PYTHON" -m proxy ask --url "http://127.0.0.1:$HTTP" "$@" ;;
drain) shift; exec "$PYTHON" -m proxy drain --admin "http://127.0.0.1:$ADMIN" "$@" ;;
*) exec "$PYTHON" -m proxy "$@" ;;
esac
"""
_PYTHON3 = """\
#!/bin/sh
[ "$1 $2" = "-m venv" ] || exec "$PYTHON" "$@"
mkdir -p "$3/bin" && ln -sf "$BIN/pip" "$BIN/penstock" "$3/bin/"
"""
_NOTE = """\
#!/bin/sh
{ printf '%s' "${0##*/}"; printf '\\037%s' "$@"; echo; } >>"$NOTES"
"""
_STAND_IN = "[ -e $LOGS/serve ] || [ ! -e {0} ] || penstock serve --config {0}"
_CURL = '#!/bin/sh\nexec {} --silent --show-error --fail-with-body --max-time 10 "$@"\n'
_MAKE = '#!/bin/sh\nexec {} --dry-run "$@"\n'


class Shell:
    """A folder with the commands, and what was noted down of those that were not run."""

    def __init__(self, folder: Path, model_server: str) -> None:
        self.folder = folder / "home"
        self._bin, self._logs, self._notes = folder / "bin", folder / "logs", folder / "notes"
        http, admin, demo, replay = free_ports(4)
        self._ports = {"HTTP": http, "ADMIN": admin, "DEMO": demo, "REPLAY": replay}
        self._here = dict.fromkeys(MODEL_SERVERS, model_server) | {
            "127.0.0.1:8080": f"127.0.0.1:{http}",
            "127.0.0.1:9090": f"127.0.0.1:{admin}",
            "127.0.0.1:8082": f"127.0.0.1:{replay}",
        }
        self._furnish()

    def save(self, name: str, text: str) -> None:
        """A file in the folder, with the addresses that are here."""
        (self.folder / name).write_text(self.localized(text), encoding="utf-8")

    def localized(self, text: str) -> str:
        """A text with the addresses that are here."""
        for there, here in self._here.items():
            text = text.replace(there, here)
        return text

    async def run(self, blocks: Iterable[Block], served: str | None = None) -> tuple[int, str]:
        """The status of these blocks in one shell, and what was said.

        `served` is a file that stands in for what a page finds running: penstock serves it from
        the first block on that finds it.
        """
        first = "" if served is None else _STAND_IN.format(quote(served))
        script = "\n".join(f"{first}\n: line {each.line}\n{each.text}" for each in blocks)
        said = self._logs / "said"
        with said.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *("sh", "-eux", "-c", self.localized(script)),
                cwd=self.folder,
                env=self._environment(),
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
            try:
                status = await process.wait()
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return status, said.read_text(encoding="utf-8")

    def _environment(self) -> dict[str, str]:
        found = dict(os.environ)  # noqa: TID251 - a person's commands have it too
        return {
            **found,
            **{name: str(port) for name, port in self._ports.items()},
            "PATH": f"{self._bin}:{found['PATH']}",
            "PYTHON": sys.executable,
            "PYTHONPATH": str(ROOT),
            "BIN": str(self._bin),
            "LOGS": str(self._logs),
            "NOTES": str(self._notes),
            "TMPDIR": str(self.folder),
        }

    def noted(self) -> list[list[str]]:
        """The commands that were not run."""
        if not self._notes.exists():
            return []
        return [line.split("\x1f") for line in self._notes.read_text().splitlines()]

    def _furnish(self) -> None:
        for folder in (self.folder, self._bin, self._logs):
            folder.mkdir()
        for entry in ROOT.iterdir():
            if entry.name != "deploy" and not entry.name.startswith("."):
                (self.folder / entry.name).symlink_to(entry)
        shutil.copytree(ROOT / "deploy", self.folder / "deploy")
        for config in self.folder.glob("deploy/**/*.jsonc"):
            config.write_text(self.localized(config.read_text(encoding="utf-8")), encoding="utf-8")
        programs = {"penstock": _PENSTOCK, "python3": _PYTHON3} | dict.fromkeys(NOTED, _NOTE)
        programs |= {"curl": _CURL, "make": _MAKE}
        for name, text in programs.items():
            program = self._bin / name
            program.write_text(text.replace("{}", shutil.which(name) or name))
            program.chmod(0o755)
