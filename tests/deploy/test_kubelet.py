"""The Pods of deploy/ under a kubelet, with the real program in them.

The model server is penstock's demo. It ends a second after SIGTERM, streams or not, as a model
server does; and so a stream that outlives it shows that somebody waited.
"""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.deploy import kubelet
from tests.deploy.kubelet import Local, Pod
from tests.deploy.manifests import (
    SETS,
    Document,
    config_text,
    containers,
    documents,
    model_server_of,
    penstock_of,
    pod_of,
)
from tests.deploy.ports import free_ports
from tests.deploy.volume import ProjectedVolume
from tests.e2e.program import killed

PENSTOCK = (sys.executable, "-m", "proxy")
DRAIN = ("penstock", "drain", "--wait")
KEY = "a key that is made up, of the web client"
# Seconds per token: the demo answers with some twenty.
QUICK, SLOW = 0.02, 1.0

GATEWAY, SIDECAR = "kustomize/gateway", "kustomize/sidecar-tgi"


class Deployed:
    """A Pod under the kubelet, and a client with a key."""

    def __init__(
        self, pod: Pod, config: ProjectedVolume, ports: dict[str, int], web: aiohttp.ClientSession
    ) -> None:
        self.pod = pod
        self.config = config
        self.content = (config.folder / "penstock.jsonc").read_text()
        self.url = f"http://127.0.0.1:{ports['http']}"
        self.admin_url = f"http://127.0.0.1:{ports['admin']}"
        self.web = web

    async def ready(self) -> None:
        """Until the Pod is ready."""
        await self.pod.until(lambda: self.pod.ready)

    def put(self, config: str) -> None:
        """What `kubectl apply` of another ConfigMap comes to, a minute later."""
        self.config.update({"penstock.jsonc": config})

    async def status(self) -> Any:
        """What the operators' page says."""
        async with self.web.get(f"{self.admin_url}/status") as response:
            return msgspec.json.decode(await response.read())

    async def probed(self, path: str) -> int:
        """The status of an operators' page."""
        async with self.web.get(self.admin_url + path) as response:
            return response.status

    @asynccontextmanager
    async def stream(self, prompt: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """A chat that has begun; nothing of it is read yet."""
        async with self.asked(prompt) as response:
            assert response.status == 200
            yield response

    @asynccontextmanager
    async def asked(self, prompt: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a chat, whatever it is."""
        body = {"stream": True, "messages": [{"role": "user", "content": prompt}]}
        headers = {"authorization": f"Bearer {KEY}"}
        url = f"{self.url}/v1/chat/completions"
        async with self.web.post(url, json=body, headers=headers) as response:
            yield response

    def outcomes(self) -> list[str]:
        """How the requests so far ended."""
        lines = self.pod.container("penstock").log.read_bytes().splitlines()
        found = [msgspec.json.decode(line) for line in lines if b'"request"' in line]
        return [line["outcome"] for line in found]


@asynccontextmanager
async def deployed(
    name: str,
    folder: Path,
    *,
    pace: float = QUICK,
    drain_seconds: float | None = None,
    may_hang: bool = False,
) -> AsyncIterator[Deployed]:
    """The Pod of one of SETS under the kubelet; a gateway's model server runs beside it.

    A model server that `may_hang` is not started again when it does.
    """
    found = documents(name)
    pod, (http, admin, model) = pod_of(found), free_ports(3)
    if may_hang and (server := model_server_of(pod)):
        del server["livenessProbe"]
    text = config_text(found).replace("vllm-1.vllm", "localhost")  # a replica by another name
    text = re.sub(r"http://(?!localhost)[\w.-]+:\d+/", f"http://127.0.0.1:{model}/", text)
    text = re.sub(r"http://localhost:\d+/", f"http://localhost:{model}/", text)
    text = text.replace("/etc/penstock/keys", str(folder / "keys"))
    text = text.replace('"timeouts": {', '"drain": {"graceSeconds": 0.2}, "timeouts": {')
    text = text.replace(
        '"timeouts": {', '"health": {"intervalSeconds": 0.1, "timeoutSeconds": 0.5}, "timeouts": {'
    )
    config = ProjectedVolume(folder / "config", {"penstock.jsonc": text})
    ProjectedVolume(folder / "keys", {"web": KEY})
    names = {
        "/etc/penstock/config": str(config.folder),
        "127.0.0.1:9090": f"127.0.0.1:{admin}",
        "sleep 7": "sleep 0.5",
    }
    if drain_seconds is not None:
        names["--drain-seconds=305"] = f"--drain-seconds={drain_seconds}"
    local = Local(
        programs=programs(pod, http, admin, model, pace),
        hooks={DRAIN: (*PENSTOCK, *DRAIN[1:], "--admin", f"http://127.0.0.1:{admin}")},
        names=names,
        ports={"admin": admin, **model_ports(pod, model)},
        logs=folder,
    )
    async with (
        beside(pod, model, pace),
        kubelet.running(pod, local) as running,
        aiohttp.ClientSession() as web,
    ):
        yield Deployed(running, config, {"http": http, "admin": admin}, web)


def programs(
    pod: Document, http: int, admin: int, model: int, pace: float
) -> dict[str, Sequence[str]]:
    """What each container of the Pod starts: penstock as told, and the demo for a model server."""
    ports = ("--port", str(http), "--admin-port", str(admin))
    found: dict[str, Sequence[str]] = {"penstock": (*PENSTOCK, *penstock_of(pod)["args"], *ports)}
    server = model_server_of(pod)
    if server is not None:
        found[server["name"]] = demo(model, pace)
    return found


def demo(port: int, pace: float) -> tuple[str, ...]:
    """The command of the demo."""
    return (*PENSTOCK, "demo", "--port", str(port), "--pace", str(pace))


def model_ports(pod: Document, port: int) -> dict[str | int, int]:
    """The ports that the model server's probes ask, and the one that stands for them."""
    probes = (
        value
        for container in containers(pod)
        for name, value in container.items()
        if name.endswith("Probe")
    )
    asked = {probe["httpGet"]["port"] for probe in probes}
    return {each: port for each in asked if each != "admin"}


@asynccontextmanager
async def beside(pod: Document, port: int, pace: float) -> AsyncIterator[None]:
    """The model server of a gateway, in a process of its own; nothing for a sidecar."""
    if model_server_of(pod) is not None:
        yield
        return
    process = await asyncio.create_subprocess_exec(
        *demo(port, pace), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        yield
    finally:
        await killed(process)


# -- coming up


@pytest.mark.parametrize("name", SETS)
async def test_a_pod_comes_up_from_its_manifest_and_streams(name: str, tmp_path: Path) -> None:
    async with deployed(name, tmp_path) as it:
        await it.ready()
        async with it.stream("hello") as response:
            answer = await response.read()

    assert answer.endswith(b"data: [DONE]\n\n")
    assert it.pod.container("penstock").starts == 1


async def test_a_sidecar_is_up_before_its_model_server_and_ready_with_it(tmp_path: Path) -> None:
    async with deployed(SIDECAR, tmp_path) as it:
        await it.ready()
        history = [each for each in it.pod.history if not each.endswith("penstock ready")]

    assert history[:3] == ["penstock running", "penstock started", "tgi running"]
    assert history[-1] == "tgi ready"


async def test_a_sidecar_is_not_ready_before_its_model_server(tmp_path: Path) -> None:
    async with deployed(SIDECAR, tmp_path) as it:
        await it.ready()

    assert it.pod.history.index("tgi running") < it.pod.history.index("penstock ready")


async def test_a_sidecar_whose_model_server_is_gone_is_not_ready_and_lives(tmp_path: Path) -> None:
    async with deployed(SIDECAR, tmp_path, may_hang=True) as it:
        await it.ready()
        it.pod.container("tgi").tell(signal.SIGSTOP)
        penstock = it.pod.container("penstock")
        await it.pod.until(lambda: not penstock.ready)
        alive = await it.probed("/livez")

    assert (alive, penstock.starts) == (200, 1)


async def test_a_penstock_that_hangs_is_started_again(tmp_path: Path) -> None:
    async with deployed(GATEWAY, tmp_path) as it:
        await it.ready()
        it.pod.container("penstock").tell(signal.SIGSTOP)
        await it.pod.until(lambda: not it.pod.ready)
        await it.pod.until(lambda: it.pod.container("penstock").starts == 2)
        await it.ready()


# -- the configuration


def with_limit(config: str, limit: int) -> str:
    """The configuration with another number in it."""
    return config.replace(
        '"timeouts": {', f'"limits": {{"maxConcurrentRequests": {limit}}}, "timeouts": {{'
    )


async def changed(it: Deployed, seen: Any) -> Any:
    """What the status says of the configuration, once that is something else."""
    while (found := (await it.status())["config"]) == seen:  # noqa: ASYNC110 - a page is no event
        await asyncio.sleep(0.01)
    return found


async def test_a_config_map_and_its_rollback_are_live_within_two_seconds(tmp_path: Path) -> None:
    async with deployed(GATEWAY, tmp_path) as it:
        await it.ready()
        first = (await it.status())["config"]
        seen = [first]
        for content in (with_limit(it.content, 7), it.content):
            it.put(content)
            async with asyncio.timeout(2):
                seen.append(await changed(it, seen[-1]))

    assert [each["generation"] for each in seen] == [1, 2, 3]
    assert [each["ok"] for each in seen] == [True, True, True]
    assert seen[2]["digest"] == first["digest"] != seen[1]["digest"]


async def test_a_bad_config_map_changes_nothing_and_its_rollback_mends_it(tmp_path: Path) -> None:
    async with deployed(GATEWAY, tmp_path) as it:
        await it.ready()
        first = (await it.status())["config"]
        it.put(it.content.replace('"timeouts"', '"tiemouts"'))
        refused = await changed(it, first)
        ready = await it.probed("/readyz")
        it.put(it.content)
        mended = await changed(it, refused)

    assert (refused["ok"], refused["generation"], ready) == (False, 1, 200)
    assert "tiemouts" in refused["problems"][0]
    assert (mended["ok"], mended["digest"]) == (True, first["digest"])


async def test_after_a_storm_of_config_maps_the_last_one_serves(tmp_path: Path) -> None:
    async with deployed(GATEWAY, tmp_path, pace=0.05) as it:
        await it.ready()
        last = with_limit(it.content, 99)
        async with it.stream("hello") as response:
            for limit in range(1, 100):
                it.put(with_limit(it.content, limit))
                await asyncio.sleep(0)
            answer = await response.read()
        status = (await it.status())["config"]
        while status["digest"] != sha256(last.encode()).hexdigest():
            status = await changed(it, status)

    assert status["ok"]
    assert answer.endswith(b"data: [DONE]\n\n")


# -- going down


async def test_a_gateway_ends_when_its_streams_have(tmp_path: Path) -> None:
    async with deployed(GATEWAY, tmp_path) as it:
        await it.ready()
        async with it.stream("hello") as response:
            await it.pod.end(20)
            answer = await response.read()

    assert answer.endswith(b"data: [DONE]\n\n")
    assert it.outcomes() == ["complete"]
    assert ended(it, "penstock") == (0, ["penstock SIGTERM"])


async def test_a_model_server_waits_for_the_streams_that_its_sidecar_carries(
    tmp_path: Path,
) -> None:
    async with deployed(SIDECAR, tmp_path, pace=0.1) as it:
        await it.ready()
        async with it.stream("hello") as response:
            await it.pod.end(20)
            answer = await response.read()

    assert answer.endswith(b"data: [DONE]\n\n")
    assert it.outcomes() == ["complete"]
    assert ended(it, "tgi", "penstock") == (0, ["tgi SIGTERM", "penstock SIGTERM"])


@pytest.mark.parametrize("name", [GATEWAY, SIDECAR])
async def test_the_hook_begins_the_drain_while_streams_go_on(name: str, tmp_path: Path) -> None:
    async with deployed(name, tmp_path, pace=0.1) as it:
        await it.ready()
        async with it.stream("hello") as response, asyncio.TaskGroup() as group:
            ending = group.create_task(it.pod.end(20))
            async with asyncio.timeout(5):
                while await it.probed("/readyz") != 503:  # noqa: ASYNC110 - a page is no event
                    await asyncio.sleep(0.01)
            alive, told = await it.probed("/livez"), "penstock SIGTERM" in it.pod.history
            while not (await it.status())["drain"]["refusing"]:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
            async with it.asked("too late") as refused:
                late = refused.status
            answer = await response.read()
            await ending

    assert (alive, told, late) == (200, False, 503)
    assert answer.endswith(b"data: [DONE]\n\n")
    assert not it.pod.container("penstock").hook_failed


async def test_a_stream_over_the_drain_is_told_so_within_the_grace(tmp_path: Path) -> None:
    async with deployed(GATEWAY, tmp_path, pace=SLOW, drain_seconds=0.2) as it:
        await it.ready()
        async with it.stream("hello") as response:
            await it.pod.end(20)
            answer = await response.read()

    assert b'"code":"drained"' in answer
    assert b"[DONE]" not in answer
    assert ended(it, "penstock") == (0, ["penstock SIGTERM"])


@pytest.mark.parametrize("name", [GATEWAY, SIDECAR])
async def test_a_stream_over_the_grace_is_cut_and_not_taken_for_whole(
    name: str, tmp_path: Path
) -> None:
    async with deployed(name, tmp_path, pace=SLOW) as it:
        await it.ready()
        async with it.stream("hello") as response:
            await it.pod.end(0.5)
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()

    status, _ = ended(it, "penstock")
    assert status in (1, -signal.SIGKILL)  # 1: the SIGTERM at the end was the second one


def ended(it: Deployed, *names: str) -> tuple[int, list[str]]:
    """The exit status of all of these containers, and the signals they got in their order."""
    (status,) = {
        each.process.returncode for name in names if (each := it.pod.container(name)).process
    }
    assert status is not None
    told = [each for each in it.pod.history if " SIG" in each and each.split()[0] in names]
    return status, told
