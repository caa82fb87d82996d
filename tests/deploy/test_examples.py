"""deploy/examples and deploy/compose.yml: they load, they fit, and the move does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import yaml

from parsers import jsonc
from proxy import __version__
from tests.deploy.manifests import DEPLOY, Document, documents
from tests.deploy.semantics import config_of
from tests.e2e.demo_server import demo_server
from tests.e2e.program import run
from tests.harness import penstock

EXAMPLES = DEPLOY / "examples"
MOVE = ("1-tgi", "2-both", "3-vllm")
NAME = "house/mistral-7b-instruct"


@pytest.mark.parametrize(
    "file",
    sorted([*EXAMPLES.glob("**/*.jsonc"), *DEPLOY.glob("kustomize/*/*.jsonc")]),
    ids=lambda file: str(file.relative_to(DEPLOY)),
)
async def test_every_configuration_is_one_that_penstock_serves(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_KEY", "made up")
    (tmp_path / "web").write_text("made up too")
    config = tmp_path / file.name
    config.write_text(file.read_text().replace("/etc/penstock/keys", str(tmp_path)))

    finished = await run("check", config)

    assert (finished.status, finished.out) == (0, f"{config}: ok\n")


def test_the_gateway_is_the_same_in_helm_and_in_kustomize() -> None:
    in_helm, in_kustomize = map(config_of, map(documents, ("helm/example", "kustomize/gateway")))

    del in_kustomize["modelConfiguration"]["sourcegraph"]  # Helm drops what is null
    assert in_helm == in_kustomize


def step(name: str, tgi: str, vllm: str) -> Document:
    """A configuration of the move, with its servers here."""
    text = (EXAMPLES / f"tgi-to-vllm/{name}.jsonc").read_text()
    text = text.replace("http://tgi:8080", tgi).replace("http://vllm:8000", vllm)
    config = jsonc.loads(text)
    assert isinstance(config, dict)
    return config


def asked(model: str, prompt: str) -> Document:
    """A chat for a model."""
    return {"model": model, "stream": True, "messages": [{"role": "user", "content": prompt}]}


async def test_the_move_from_tgi_to_vllm_keeps_every_name_and_every_stream() -> None:
    whole, native, states = [], [], []
    async with demo_server() as tgi, demo_server() as vllm:
        steps = [step(name, tgi.url, vllm.url) for name in MOVE]
        async with penstock(steps[0]) as proxy:
            slow = asked(NAME, "[[slow=0.05 tokens=40]] from the first step to the last")
            async with proxy.post("/v1/chat/completions", slow) as stream:
                for config in steps:
                    assert await proxy.reload(config) == 200
                    whole.append(await proxy.ask("/v1/chat/completions", asked(NAME, "hello")))
                    native.append(await proxy.ask("/generate", {"inputs": "hello"}))
                    states.append(((await tgi.state()).started, (await vllm.state()).started))
                lasting = await stream.read()

    assert [(status, body.endswith(b"data: [DONE]\n\n")) for status, body in whole] == [
        (200, True)
    ] * 3
    assert [status for status, _ in native] == [200] * 3
    assert len({msgspec.json.decode(body)["generated_text"] for _, body in native}) == 1
    assert states == [(3, 0), (5, 0), (5, 2)]  # the lasting one, then two in each step
    assert lasting.endswith(b"data: [DONE]\n\n")


async def test_on_trial_the_new_server_has_a_name_of_its_own() -> None:
    async with (
        demo_server() as tgi,
        demo_server() as vllm,
        penstock(step("2-both", tgi.url, vllm.url)) as proxy,
    ):
        body = asked("trial/mistral-7b-instruct-on-vllm", "hello")
        status, _ = await proxy.ask("/v1/chat/completions", body)
        started = ((await tgi.state()).started, (await vllm.state()).started)

    assert (status, started) == (200, (0, 1))


@pytest.mark.parametrize(
    "page", sorted(DEPLOY.glob("**/*.md")), ids=lambda page: str(page.relative_to(DEPLOY))
)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())

    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []


# -- compose


def services() -> dict[str, Document]:
    """The services of the compose file."""
    found: Document = yaml.safe_load((DEPLOY / "compose.yml").read_text())
    return dict(found["services"])


def test_compose_gives_streams_their_time() -> None:
    found = services()
    config = jsonc.loads((EXAMPLES / "compose/penstock.jsonc").read_text())
    assert isinstance(config, dict)
    total = config["penstock"]["timeouts"]["totalSeconds"]

    assert found["penstock"]["command"][-2:] == ["--drain-seconds", f"{total}"]
    assert found["penstock"]["stop_grace_period"] == f"{total + 30}s"
    assert found["tgi"]["stop_grace_period"] == f"{total + 30}s"


def test_compose_runs_penstock_with_little() -> None:
    for name in ("penstock", "demo"):
        service = services()[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["image"] == f"penstock:{__version__}"


def test_compose_names_servers_that_there_are_and_opens_one_port_on_loopback() -> None:
    found = services()
    config = (EXAMPLES / "compose/penstock.jsonc").read_text()
    mounted = found["penstock"]["volumes"][0].split(":")[0]

    assert set(re.findall(r"http://(\w+):", config)) == set(found) - {"penstock"}
    assert (DEPLOY / mounted).resolve() == EXAMPLES / "compose"
    assert [service.get("ports") for service in found.values()] == [
        ["127.0.0.1:8080:8080"],
        None,
        None,
    ]


@pytest.mark.parametrize("name", ["penstock", "demo"])
async def test_penstock_takes_the_arguments_of_compose(name: str, tmp_path: Path) -> None:
    config = tmp_path / "penstock.jsonc"
    config.write_text("{")
    words = services()[name]["command"]
    told = [str(config) if word.endswith(".jsonc") else word for word in words]

    finished = await run(*told, *(["--help"] if name == "demo" else []))

    assert finished.status == (0 if name == "demo" else 78)  # 2 would be the arguments


async def test_the_health_check_of_compose_is_python() -> None:
    kind, program, flag, code = services()["penstock"]["healthcheck"]["test"]

    assert (kind, program, flag) == ("CMD", "python3", "-c")
    compile(code, "healthcheck", "exec")
