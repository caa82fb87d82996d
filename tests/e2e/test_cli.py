"""The program as an operator meets it: exit statuses, signals, draining, its output."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import msgspec
import pytest

from parsers import jsonc
from proxy import __version__
from tests.e2e.demo_server import HELLO, before_demo
from tests.e2e.program import Program, killed, run, serving, started
from tests.harness import MODEL, chat, config_for
from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Upstream, chunk, response

ROOT = Path(__file__).parents[2]
SEED = ROOT / "tests/fixtures/vectors/seed_site_config.jsonc"
EXAMPLE = ROOT / "deploy/examples/demo.jsonc"

EX_UNAVAILABLE = 69
EX_CONFIG = 78

TOKEN = (
    b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'
)
FINISH = b'data: {"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
TEXT = b'data: {"id":"x","choices":[{"index":0,"text":"Hi","finish_reason":null}]}\n\n'

NOWHERE = "http://127.0.0.1:9"


@asynccontextmanager
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        yield client


async def refused(url: str) -> bool:
    """Whether nobody listens there, soon."""
    for _ in range(500):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        except ConnectionRefusedError:
            return True
        writer.close()
        await asyncio.sleep(0.01)
    return False


# -- the command line


async def test_the_version_is_told() -> None:
    status, said, _ = await run("--version")

    python = f"{platform.python_implementation()} {platform.python_version()}"
    assert (status, said) == (0, f"penstock {__version__} ({python}, {platform.machine()})\n")


async def test_without_a_command_the_usage_is_told() -> None:
    finished = await run()

    assert finished.status == 2
    assert finished.err.startswith("usage: penstock ")


async def test_the_schema_accepts_the_examples_and_refuses_a_slip() -> None:
    printed = await run("schema")

    assert (printed.status, printed.err) == (0, "")
    schema = msgspec.json.decode(printed.out)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for path in (SEED, EXAMPLE):
        assert list(validator.iter_errors(jsonc.loads(path.read_text()))) == []
    slip: Any = jsonc.loads(SEED.read_text())
    slip["modelConfiguration"]["providerOverides"] = []
    assert not validator.is_valid(slip)


async def test_the_demo_serves_until_it_is_told_to_stop() -> None:
    process = await started("demo", "--port", "0", "--pace", "0")
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        url = line.split()[-1]
        async with session() as client, client.get(f"{url}/health") as answer:
            status = answer.status
        process.terminate()
        exit_status = await process.wait()
    finally:
        await killed(process)

    assert line.startswith("penstock demo: a stand-in for TGI, no real model, on http://127.0.0.1:")
    assert (status, exit_status) == (200, 0)


async def test_a_demo_without_its_port_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        finished = await run("demo", "--port", str(taken.getsockname()[1]))

    assert finished.status == EX_UNAVAILABLE
    assert "address already in use" in finished.err
    assert "Traceback" not in finished.err


# -- ask


async def test_ask_ends_with_the_truth_about_the_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        dead = f"http://127.0.0.1:{server.getsockname()[1]}"
    clients = {"clients": [{"name": "me", "key": "my-key"}]}
    async with before_demo("openai", clients) as (proxy, _):
        url, key = ("--url", proxy.url), ("--key", "my-key")
        good, counted, failed, cut, wrong, missing, empty, gone = await asyncio.gather(
            run("ask", *url, *key, "hello"),
            run("ask", *url, *key, "--usage", "--model", MODEL, "hello"),
            run("ask", *url, *key, "[[fail]]"),
            run("ask", *url, *key, "[[cut]]"),
            run("ask", *url, "--key", "your-key", "hello"),
            run("ask", *url, *key, "--model", "nobody", "hello"),
            run("ask", *url, *key, " "),
            run("ask", "--url", dead, "hello"),
        )

    assert good == (0, HELLO + "\n", "")
    assert counted == (0, HELLO + "\n", "penstock ask: 1 prompt tokens, 17 answer tokens\n")
    assert (failed.status, failed.out) == (1, "This is the\n")
    assert "the demo was asked to fail" in failed.err
    assert (cut.status, cut.out) == (1, "This is the\n")
    assert "broke off" in cut.err
    assert (wrong.status, wrong.err) == (
        1,
        "penstock ask: 401 Unauthorized: the API key is not known\n",
    )
    assert missing.status == 1
    assert 'the model "nobody" does not exist' in missing.err
    assert empty.status == 2
    assert gone.status == EX_UNAVAILABLE


# -- serve: starting


async def test_a_bad_configuration_is_told_whole(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonc"
    path.write_text(
        "{\n"
        '  "modelConfiguration": {\n'
        '    "sourcegraph": null,\n'
        '    "providerOverrides": [\n'
        '      {"id": "lab", "serverSideConfig": {"type": "huggingface-tgi", "endpoint": []}},\n'
        '      {"id": "den", "serverSideConfig": {"type": "nobody"}}\n'
        "    ]\n"
        "  },\n"
        '  "penstock": {\n'
        '    "limits": {"maxBodyBytes": "many"},\n'
        '    "clients": [{"name": "me", "key": "canary-key", "modelz": []}]\n'
        "  }\n"
        "}\n"
    )

    finished = await run("serve", "--config", path)

    first, *problems = finished.err.splitlines()
    assert finished.status == EX_CONFIG
    assert first == f"penstock: {path}:"
    found = {tuple(problem.split(": ")[:2]) for problem in problems}
    assert found >= {
        (
            "line 5, column 69",
            "modelConfiguration.providerOverrides[0].serverSideConfig.endpoint",
        ),
        (
            "line 6, column 50",
            "modelConfiguration.providerOverrides[1].serverSideConfig.type",
        ),
        ("line 10, column 32", "penstock.limits.maxBodyBytes"),
        ("line 11, column 53", "penstock.clients[0].modelz"),
    }
    assert 'did you mean "models"?' in finished.err
    assert "canary-key" not in finished.err + finished.out
    assert "Traceback" not in finished.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1, column 1"),
        (b'{\n  "penstock": {,}\n}', "line 2, column 16"),
        (b"\xff\xfe", "line 1, column 1: not UTF-8"),
        (None, "no such file or directory"),
    ],
)
async def test_a_file_that_cannot_be_read_is_a_bad_configuration(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "config.jsonc"
    if content is not None:
        path.write_bytes(content)

    finished = await run("serve", "--config", path)

    assert finished.status == EX_CONFIG
    assert message in finished.err
    assert "Traceback" not in finished.err


async def test_everybody_is_let_in_only_where_the_operator_says_so(tmp_path: Path) -> None:
    path = tmp_path / "open.jsonc"
    path.write_bytes(msgspec.json.encode(config_for(NOWHERE)))
    ports = ("--port", "0", "--admin-port", "0")

    finished = await run("serve", "--config", path, "--host", "0.0.0.0", *ports)

    assert finished.status == EX_CONFIG
    assert "--allow-anonymous" in finished.err
    async with serving(config_for(NOWHERE), "--host", "0.0.0.0", "--allow-anonymous") as program:
        assert program.url.startswith("http://0.0.0.0:")
    keys = {"clients": [{"name": "me", "key": "my-key"}]}
    async with serving(config_for(NOWHERE, penstock=keys), "--host", "0.0.0.0") as program:
        assert program.url.startswith("http://0.0.0.0:")


@pytest.mark.parametrize("option", ["--port", "--admin-port"])
async def test_an_address_that_is_taken_is_named(tmp_path: Path, option: str) -> None:
    path = tmp_path / "config.jsonc"
    path.write_bytes(msgspec.json.encode(config_for(NOWHERE)))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        other = "--admin-port" if option == "--port" else "--port"
        finished = await run("serve", "--config", path, option, port, other, "0")

    assert finished.status == EX_UNAVAILABLE
    assert port in finished.err
    assert "address already in use" in finished.err
    assert "Traceback" not in finished.err


async def test_where_it_listens_is_told_once_it_does() -> None:
    async with serving(config_for(NOWHERE)) as program, session() as client:
        first, listening, *_ = program.events
        async with client.get(f"{program.url}/health") as answer:
            health = answer.status
        async with client.get(f"{program.admin_url}/readyz") as answer:
            ready = answer.status
        program.tell(signal.SIGTERM)
        finished = await program.ended()

    assert (first["event"], first["ok"], first["generation"]) == ("config", True, 1)
    assert listening["event"] == "listening"
    assert program.url.startswith("http://127.0.0.1:")
    assert (health, ready) == (200, 200)
    assert finished == (0, "", "")


# -- serve: stopping


async def test_streams_finish_before_a_told_program_leaves() -> None:
    async with (
        Upstream() as upstream,
        serving(config_for(upstream.url), "--drain-seconds", "20") as program,
        session() as client,
        asyncio.TaskGroup() as group,
    ):

        async def read() -> bytes:
            async with client.post(
                f"{program.url}/v1/chat/completions", data=msgspec.json.encode(chat())
            ) as answer:
                return await answer.read()

        bodies = [group.create_task(read()) for _ in range(3)]
        streams = [await upstream.accept() for _ in bodies]
        for up in streams:
            await up.request()
            up.send(STREAM_HEAD + chunk(TOKEN))
            await up.pause()

        program.tell(signal.SIGTERM)
        await program.logged("draining")
        closed = await refused(program.url)
        async with client.get(f"{program.admin_url}/readyz") as answer:
            ready = answer.status
        for up in streams:
            up.send(chunk(TOKEN) + chunk(FINISH + DONE) + LAST_CHUNK)
        finished = await program.ended()

        assert closed
        assert ready == 503
        assert [await body for body in bodies] == [TOKEN + TOKEN + FINISH + DONE] * 3
        assert finished == (0, "", "")
        assert [line["outcome"] for line in program.requests()] == ["complete"] * 3


async def test_streams_that_last_too_long_are_told_so_in_their_dialect() -> None:
    streams = {
        "/v1/chat/completions": (chat(), TOKEN),
        "/v1/completions": ({"model": MODEL, "prompt": "hi", "stream": True}, TEXT),
        "/generate_stream": ({"inputs": "hi"}, TEXT),
    }
    async with (
        Upstream() as upstream,
        serving(config_for(upstream.url), "--drain-seconds", "0.3") as program,
        session() as client,
        asyncio.TaskGroup() as group,
    ):

        async def read(path: str, body: object) -> bytes:
            url = program.url + path
            async with client.post(url, data=msgspec.json.encode(body)) as answer:
                assert answer.status == 200
                return await answer.read()  # raises if the body does not end as it should

        bodies = []
        for path, (body, token) in streams.items():
            bodies.append(group.create_task(read(path, body)))
            up = await upstream.accept()
            await up.request()
            up.send(STREAM_HEAD + chunk(token))
            await up.pause()
        program.tell(signal.SIGTERM)
        finished = await program.ended()

        ends = [(await body).rstrip().rpartition(b"\n\n") for body in bodies]
        chat_end, text_end, native_end = (last for _, _, last in ends)
        drained = (
            b'data: {"error":{"message":"the proxy is shutting down","type":"server_error",'
            b'"param":null,"code":"drained"}}'
        )
        assert [b"Hi" in first for first, _, _ in ends] == [True, True, True]
        assert chat_end == drained
        assert text_end == drained
        assert native_end == (
            b'data: {"error":"the proxy is shutting down","error_type":"overloaded"}'
        )
        assert finished == (0, "", "")
        assert [line["outcome"] for line in program.requests()] == ["drained"] * 3


async def test_requests_without_a_first_byte_get_a_status_at_the_deadline() -> None:
    async with (
        Upstream() as upstream,
        serving(config_for(upstream.url), "--drain-seconds", "0.3") as program,
        session() as client,
        asyncio.TaskGroup() as group,
    ):

        async def ask(stream: bool) -> tuple[int, Any]:
            async with client.post(
                f"{program.url}/v1/chat/completions",
                data=msgspec.json.encode(chat(stream=stream)),
            ) as answer:
                return answer.status, msgspec.json.decode(await answer.read())

        asked = [group.create_task(ask(stream)) for stream in (True, False)]
        for _ in asked:
            await (await upstream.accept()).request()
        program.tell(signal.SIGTERM)
        finished = await program.ended()

        for status, body in [await each for each in asked]:
            assert (status, body["error"]["code"]) == (503, "drained")
        assert finished == (0, "", "")
        assert [line["outcome"] for line in program.requests()] == ["drained"] * 2


async def test_nobody_who_dawdles_keeps_it_from_leaving() -> None:
    async with (
        serving(config_for(NOWHERE), "--drain-seconds", "0.3") as program,
        session() as client,
        client.get(f"{program.admin_url}/events") as feed,
        half_a_request(client, program),
    ):
        await feed.content.readline()
        async with client.get(f"{program.url}/health"):  # the connection stays open
            pass
        program.tell(signal.SIGTERM)
        async with asyncio.timeout(10):
            finished = await program.ended()

    assert finished == (0, "", "")


async def test_who_is_still_sending_a_request_is_told_that_it_leaves() -> None:
    async with (
        serving(config_for(NOWHERE), "--drain-seconds", "0.3") as program,
        session() as client,
        half_a_request(client, program) as reader,
    ):
        program.tell(signal.SIGTERM)
        finished = await program.ended()
        answer = await reader.read()

    assert finished == (0, "", "")
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert [line["outcome"] for line in program.requests()] == ["drained"]


@asynccontextmanager
async def half_a_request(
    client: aiohttp.ClientSession, program: Program
) -> AsyncIterator[asyncio.StreamReader]:
    """A request whose body does not come; `program` has begun to wait for it."""
    port = int(program.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        while await in_flight(client, program) < 1:  # noqa: ASYNC110 - another process's gauge
            await asyncio.sleep(0.01)
        yield reader
    finally:
        writer.close()


async def in_flight(client: aiohttp.ClientSession, program: Program) -> float:
    async with client.get(f"{program.admin_url}/metrics") as answer:
        page = await answer.text()
    (line,) = [each for each in page.splitlines() if each.startswith("penstock_requests_in_fl")]
    return float(line.split()[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(number: signal.Signals) -> None:
    async with (
        Upstream() as upstream,
        serving(config_for(upstream.url), "--drain-seconds", "600") as program,
        session() as client,
        asyncio.TaskGroup() as group,
    ):

        async def read() -> None:
            body = msgspec.json.encode(chat())
            with pytest.raises(aiohttp.ClientError):  # the answer breaks off
                async with client.post(f"{program.url}/v1/chat/completions", data=body) as answer:
                    await answer.read()

        group.create_task(read())
        up = await upstream.accept()
        await up.request()
        up.send(STREAM_HEAD + chunk(TOKEN))
        await up.pause()
        program.tell(number)
        await program.logged("draining")
        program.tell(number)
        async with asyncio.timeout(10):
            finished = await program.ended()

        assert finished == (1, "", "")
        await up.gone()


async def test_hangup_reloads() -> None:
    async with serving(config_for(NOWHERE)) as program:
        program.tell(signal.SIGHUP)
        same = await program.logged("config", reason="SIGHUP")
        changed = config_for(NOWHERE, penstock={"limits": {"maxConcurrentRequests": 7}})
        replace(program.config, msgspec.json.encode(changed))
        program.tell(signal.SIGHUP)
        fresh = await program.logged("config", generation=2)
        replace(program.config, b"{")
        program.tell(signal.SIGHUP)
        bad = await program.logged("config", ok=False)
        program.tell(signal.SIGTERM)
        finished = await program.ended()

    assert (same["ok"], same["generation"]) == (True, 1)
    assert fresh["ok"] is True
    assert bad["generation"] == 2
    assert "line 1, column 2" in bad["problems"][0]
    assert finished == (0, "", "")


@pytest.mark.parametrize("arguments", [(), ("--poll",)])
async def test_a_changed_file_is_noticed(arguments: tuple[str, ...]) -> None:
    async with serving(config_for(NOWHERE), *arguments) as program:
        changed = config_for(NOWHERE, penstock={"limits": {"maxConcurrentRequests": 7}})
        replace(program.config, msgspec.json.encode(changed))
        line = await program.logged("config", generation=2)

    assert (line["ok"], line["reason"]) == (True, "file changed")


def replace(path: Path, content: bytes) -> None:
    """Put a new file in the place of the old one, as editors and Kubernetes do."""
    other = path.with_suffix(".new")
    other.write_bytes(content)
    os.replace(other, path)  # noqa: PTH105 - the name of what is meant


# -- serve: its output


async def test_a_log_that_nobody_reads_stops_neither_the_serving_nor_the_leaving(
    tmp_path: Path,
) -> None:
    async def answer(up: Conversation) -> None:
        body = b'{"choices":[{"index":0,"message":{"content":"Hi"},"finish_reason":"stop"}]}'
        async for _ in up.requests():
            up.send(response(body, headers=b"Content-Type: application/json\r\n"))

    path = tmp_path / "config.jsonc"
    async with Upstream(answer) as upstream, session() as client:
        path.write_bytes(msgspec.json.encode(config_for(upstream.url)))
        ports = ("--port", "0", "--admin-port", "0")
        reader, writer = os.pipe()  # 64 kB
        process = await started("serve", "--config", path, *ports, stdout=writer)
        try:
            os.close(writer)
            url = await asyncio.to_thread(listening, reader)
            body = msgspec.json.encode(chat(stream=False))
            statuses = set()
            for _ in range(400):  # 200 kB of lines
                async with client.post(f"{url}/v1/chat/completions", data=body) as reply:
                    statuses.add(reply.status)
                    await reply.read()
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                status = await process.wait()
        finally:
            await killed(process)
            os.close(reader)

    assert statuses == {200}
    assert status == 0


def listening(reader: int) -> str:
    """Where it listens; the first two lines are read and nothing else is."""
    lines = b""
    while lines.count(b"\n") < 2:
        lines += os.read(reader, 1)
    url: str = msgspec.json.decode(lines.splitlines()[1])["clients"]
    return url
