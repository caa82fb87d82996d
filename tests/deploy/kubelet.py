"""A kubelet for one Pod, whose containers are processes here: the order, probes, hooks and timers.

It follows kubernetes.io's "Pod Lifecycle" and "Sidecar Containers": native sidecars start first,
one after the other as their start-up probes pass. When the Pod ends, all preStop hooks run at once
while the grace runs; the main containers get SIGTERM as their own hooks return, the sidecars after
the last of them. Who still runs at the end of the grace gets SIGTERM, and SIGKILL two seconds
later.

Time passes faster: a second of a probe's period lasts `SECOND`, and a probe may take `PATIENCE`.
The grace is the caller's to say, in real seconds.
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import msgspec

from tests.deploy.manifests import Document

SECOND = 0.02
PATIENCE = aiohttp.ClientTimeout(total=0.5)
AFTER_THE_GRACE_SECONDS = 2.0


class Local(msgspec.Struct, frozen=True):
    """What stands on this machine for the names in a manifest."""

    programs: Mapping[str, Sequence[str]]  # by container: what its image would start
    hooks: Mapping[Sequence[str], Sequence[str]]  # what another command is here
    names: Mapping[str, str]  # texts of arguments and hooks, such as paths and addresses
    ports: Mapping[str | int, int]  # by name or number
    logs: Path  # where each container's standard output goes

    def words(self, words: Sequence[str]) -> list[str]:
        """These words with everything in them that is elsewhere here."""
        return [self._word(word) for word in words]

    def _word(self, word: str) -> str:
        for name, here in self.names.items():
            word = word.replace(name, here)
        return word


class Container:
    """One container: its process, and what its probes say."""

    def __init__(self, spec: Document, local: Local, changed: Callable[[str], None]) -> None:
        self.name: str = spec["name"]
        self.spec = spec
        self.process: Process | None = None
        self.ready = False
        self.starts = 0
        self.hook_failed = False
        self._local = local
        self._changed = changed
        self._session: aiohttp.ClientSession | None = None
        self.log = local.logs / f"{self.name}.log"

    @property
    def runs(self) -> bool:
        """Whether its process is there."""
        return self.process is not None and self.process.returncode is None

    async def run(self, session: aiohttp.ClientSession, started: asyncio.Event) -> None:
        """Start it and probe it until cancelled; start it again when it no longer lives."""
        self._session = session
        while True:
            await self._start()
            await self._until("startupProbe", passes=True)
            started.set()
            self._changed(f"{self.name} started")
            async with asyncio.TaskGroup() as group:
                readiness = group.create_task(self._watch_readiness())
                await self._until("livenessProbe", passes=False)
                readiness.cancel()
            await self.stop(0)

    async def stop(self, grace: float) -> None:
        """SIGTERM, and SIGKILL after the grace."""
        self.tell(signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.ended(), grace)
        self.tell(signal.SIGKILL)
        await self.ended()

    async def ended(self) -> None:
        """Until its process is gone."""
        if self.process is not None:
            await self.process.wait()

    def tell(self, number: signal.Signals) -> None:
        """Send its process group a signal, if there still is one."""
        if self.process is not None and self.runs:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            self._changed(f"{self.name} {number.name}")

    async def pre_stop(self) -> None:
        """Run its hook to the end; as in Kubernetes, one that fails holds up nothing."""
        hook = self.spec.get("lifecycle", {}).get("preStop")
        if hook is None:
            return
        told = hook["exec"]["command"]
        command = self._local.hooks.get(tuple(told)) or self._local.words(told)
        process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
        try:
            self.hook_failed = await process.wait() != 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _start(self) -> None:
        program = self._local.words(self._local.programs[self.name])
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *program, stdout=log, stderr=log, start_new_session=True
            )
        self.starts += 1
        self._changed(f"{self.name} running")

    async def _watch_readiness(self) -> None:
        while True:
            await self._until("readinessProbe", passes=True)
            self.ready = True
            self._changed(f"{self.name} ready")
            await self._until("readinessProbe", passes=False)
            self.ready = False
            self._changed(f"{self.name} not ready")

    async def _until(self, name: str, *, passes: bool) -> None:
        """Until the probe says so often enough; a missing one has passed, and never fails."""
        probe = self.spec.get(name)
        if probe is None and passes:
            return
        wanted = 0
        threshold = 1 if probe is None or passes else probe.get("failureThreshold", 3)
        while wanted < threshold:
            await asyncio.sleep(SECOND * (probe or {}).get("periodSeconds", 10))
            assert self.runs, self.log.read_text()  # nothing here ends by itself
            if probe is not None:
                wanted = wanted + 1 if await self._passes(probe) == passes else 0

    async def _passes(self, probe: Document) -> bool:
        assert self._session is not None
        asked = probe["httpGet"]
        url = f"http://127.0.0.1:{self._local.ports[asked['port']]}{asked['path']}"
        try:
            async with self._session.get(url, timeout=PATIENCE) as response:
                return 200 <= response.status < 400
        except (aiohttp.ClientError, TimeoutError):
            return False


class Pod:
    """A Pod on this machine."""

    def __init__(self, template: Document, local: Local) -> None:
        spec = template["spec"]
        self.history: list[str] = []  # what happened, in order
        self._bell = asyncio.Event()
        self.sidecars = [
            Container(each, local, self._log) for each in spec.get("initContainers", ())
        ]
        self.main = [Container(each, local, self._log) for each in spec["containers"]]
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def containers(self) -> list[Container]:
        """All of them, in the order in which they start."""
        return [*self.sidecars, *self.main]

    @property
    def ready(self) -> bool:
        """Whether Services send requests to it."""
        return all(each.ready for each in self.containers)

    def container(self, name: str) -> Container:
        """One of its containers."""
        (found,) = (each for each in self.containers if each.name == name)
        return found

    async def until(self, holds: Callable[[], bool]) -> None:
        """Until this holds, looked at after each thing that happens."""
        while not holds():
            self._bell.clear()
            await self._bell.wait()

    async def start(self, session: aiohttp.ClientSession, group: asyncio.TaskGroup) -> None:
        """Start the sidecars one after the other, then the rest."""
        for sidecar in self.sidecars:
            await self._started(sidecar, session, group).wait()
        for each in self.main:
            self._started(each, session, group)

    def abandon(self) -> None:
        """Look after it no more, and kill what is left of it."""
        for task in self._tasks:
            task.cancel()
        for each in self.containers:
            each.tell(signal.SIGKILL)

    async def end(self, grace: float) -> None:
        """Delete it: hooks, SIGTERM in order, and SIGKILL after the grace (in real seconds)."""
        for task in self._tasks:
            task.cancel()
        try:
            async with asyncio.timeout(grace), asyncio.TaskGroup() as group:
                hooks = {each: group.create_task(each.pre_stop()) for each in self.containers}
                ends = [group.create_task(_end(each, hooks[each])) for each in self.main]
                await asyncio.gather(*ends)
                for each in reversed(self.sidecars):
                    await _end(each, hooks[each])
        except TimeoutError:
            self._log("the grace is over")
            async with asyncio.TaskGroup() as group:
                for each in self.containers:
                    group.create_task(each.stop(AFTER_THE_GRACE_SECONDS))

    def _started(
        self, container: Container, session: aiohttp.ClientSession, group: asyncio.TaskGroup
    ) -> asyncio.Event:
        started = asyncio.Event()
        self._tasks.append(group.create_task(container.run(session, started)))
        return started

    def _log(self, what: str) -> None:
        self.history.append(what)
        self._bell.set()


async def _end(container: Container, hook: asyncio.Task[None]) -> None:
    await hook
    container.tell(signal.SIGTERM)
    await container.ended()


@asynccontextmanager
async def running(template: Document, local: Local) -> AsyncIterator[Pod]:
    """The Pod of this template, starting; what is left of it is killed when the block ends."""
    pod = Pod(template, local)
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        starting = group.create_task(pod.start(session, group))
        try:
            yield pod
        finally:
            starting.cancel()
            pod.abandon()
            await asyncio.gather(*(each.ended() for each in pod.containers))
