"""nginx and HAProxy before penstock, as deploy/ sets them: a token is not held back."""

from __future__ import annotations

import asyncio
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.deploy.manifests import DEPLOY
from tests.deploy.ports import free_ports
from tests.e2e.frames import DONE, FINISH, TOKEN
from tests.e2e.program import killed
from tests.e2e.rawclient import raw_client
from tests.harness import chat, config_for, penstock
from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Upstream, chunk

CHAT = "/v1/chat/completions"
NGINX = (DEPLOY / "nginx/penstock.conf").read_text()
HAPROXY = (DEPLOY / "haproxy/haproxy.cfg").read_text()
# What an operator's nginx.conf has around the file.
AROUND = """
daemon off; master_process off; pid {folder}/pid; error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
    uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
    include {folder}/penstock.conf;
}}
"""
TRIES = 5
HELD_BACK_SECONDS = 0.05


def found(program: str) -> str:
    """The program's path; skips where there is none."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def command(front: str, text: str, folder: Path, port: int, behind: str) -> list[str]:
    """Write the configuration with other addresses in it; the command that serves it."""
    address = urlsplit(behind).netloc
    here = text.replace("127.0.0.1:8080", address).replace("listen 80;", f"listen {port};")
    here = here.replace("bind :80", f"bind 127.0.0.1:{port}")
    if front == "haproxy":
        here = here.replace("check port 9090", "")  # one penstock, and nobody to take its place
        (folder / "haproxy.cfg").write_text(here)
        return [found("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]
    (folder / "penstock.conf").write_text(here)
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder))
    return [found("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]


@asynccontextmanager
async def before(front: str, text: str, folder: Path, behind: str) -> AsyncIterator[str]:
    """A front with this configuration before penstock; its URL."""
    (port,) = free_ports(1)
    started = command(front, text, folder, port, behind)
    process = await asyncio.create_subprocess_exec(*started, stdout=DEVNULL, stderr=PIPE)
    try:
        await listening(process, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        await killed(process)


async def listening(process: asyncio.subprocess.Process, port: int) -> None:
    """Until somebody answers there; fails if the process ends instead."""
    while process.returncode is None:
        with suppress(ConnectionError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.01)
    assert process.stderr is not None
    pytest.fail((await process.stderr.read()).decode())


async def delay(front: str, text: str, folder: Path) -> tuple[float, bytes]:
    """The shortest of some times from a first token's sending to its arrival; a whole answer."""
    sent, seen = [0.0], asyncio.Event()
    clock = asyncio.get_running_loop().time

    async def answer(up: Conversation) -> None:
        async for _ in up.requests():
            seen.clear()
            up.send(STREAM_HEAD)
            sent[0] = clock()
            up.send(chunk(TOKEN))
            await seen.wait()
            up.send(chunk(FINISH) + chunk(DONE) + LAST_CHUNK)

    delays, whole = [], b""
    async with (
        Upstream(answer) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        before(front, text, folder, proxy.url) as url,
    ):
        for _ in range(TRIES):
            async with raw_client(url) as client:
                client.ask(CHAT, chat())
                await client.read_until(b'"Hi"')
                delays.append(clock() - sent[0])
                seen.set()
                whole = await client.read_until(DONE)
    return min(delays), whole


@pytest.mark.parametrize(("front", "text"), [("nginx", NGINX), ("haproxy", HAPROXY)])
async def test_the_first_token_is_through_within_50_ms(
    front: str, text: str, tmp_path: Path
) -> None:
    seconds, whole = await delay(front, text, tmp_path)

    assert seconds < HELD_BACK_SECONDS
    assert FINISH in whole


async def test_haproxy_holds_tokens_back_without_its_most_important_line(tmp_path: Path) -> None:
    seconds, _ = await delay("haproxy", HAPROXY.replace("option http-no-delay", ""), tmp_path)

    assert seconds > HELD_BACK_SECONDS


@pytest.mark.parametrize(("front", "text"), [("nginx", NGINX), ("haproxy", HAPROXY)])
async def test_the_front_itself_finds_nothing_wrong(front: str, text: str, tmp_path: Path) -> None:
    check = {"nginx": "-t", "haproxy": "-c"}[front]
    started = command(front, text, tmp_path, 8080, "http://127.0.0.1:9")

    process = await asyncio.create_subprocess_exec(*started, check, stdout=PIPE, stderr=PIPE)
    out, err = await process.communicate()

    said = (out + err).decode()
    assert process.returncode == 0
    assert "warn" not in said.lower(), said
