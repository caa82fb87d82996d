"""The pages are true: commands run, configurations load.

The commands of a page's `sh` blocks are run in one shell, in the order of the page, with penstock
as it is and the demo for every model server. A block of JSON whose first line is a comment with a
name is saved under it. What needs a cluster, an engine or a package index is noted down, and each
of these commands is then run as far as it goes here: see the functions below, which say how far and
why. pip and `make run` are run by tests/test_docs_install.py, `make image`, `docker tag` and
`docker push` by tests/deploy/test_image.py.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import helm_python
import msgspec
import pytest
import yaml

from parsers import jsonc
from proxy import __version__
from proxy.capture.format import FORMAT, Event, Header, written
from proxy.cli import main
from tests.deploy.manifests import Document, kustomized
from tests.e2e.demo_server import demo_server
from tests.pages import GUIDES, ROOT, Block, Page
from tests.shell import NOTED, Shell

SPOKEN = [page for page in GUIDES if page.blocks("sh")]

# What stands in for the penstock that a page finds running.
SERVED = {
    "docs/sidecar.md": "checked.jsonc",
    "docs/debugging.md": "running.jsonc",
    "deploy/examples/tgi-to-vllm/README.md": "2-both.jsonc",
}
RUNNING = """{
  "modelConfiguration": {
    "sourcegraph": null,
    "providerOverrides": [
      {"id": "lab", "serverSideConfig": {"type": "huggingface-tgi", "endpoints": [{"url": "http://tgi:8080"}]}},
    ],
    "modelOverrides": [{"modelRef": "lab::v1::llama", "capabilities": ["chat"]}],
  },
  "penstock": {"clients": [{"name": "alice", "key": "made up"}]},
}"""
OPEN = re.sub(r'"clients": .*?\]', "", RUNNING)
# What stands for something in a sentence, and what it is here.
PLACES = {
    "FILE": "running.jsonc",
    "OLD": "running.jsonc",
    "NEW": "running.jsonc",
    "URL": "http://tgi:8080",
    "COMMAND": "check",
    "localhost": "127.0.0.1",
}
CAPTURE = written(
    Header(FORMAT, "2026-11-20T14:33:14Z", "failed", {"stream": False}),
    [
        Event(0.0, "client", "received", b"POST /v1/chat/completions HTTP/1.1\r\n\r\n{}"),
        Event(0.1, "upstream-1", "received", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"),
        Event(0.2, "upstream-1", "ended", b"whole"),
    ],
)

# Commands


def needs(*programs: str) -> None:
    """Skip where one of these is missing."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")


@pytest.mark.parametrize("page", SPOKEN, ids=str)
async def test_the_commands_of_a_page_do_what_it_says(page: Page, tmp_path: Path) -> None:
    needs("curl", "make", "openssl")
    async with demo_server() as demo:
        shell = Shell(tmp_path, demo.url)
        for neighbour in page.path.parent.glob("*.jsonc"):
            shell.save(neighbour.name, neighbour.read_text(encoding="utf-8"))
        for block in page.blocks("json", "jsonc"):
            if block.name is not None:
                shell.save(block.name, block.text)
        for name in re.findall(r"\S+\.capture\b", page.text):
            (shell.folder / name).write_bytes(CAPTURE)
        if SERVED.get(str(page)) == "running.jsonc":
            shell.save("running.jsonc", RUNNING)

        status, said = await shell.run(page.blocks("sh"), SERVED.get(str(page)))

    assert status == 0, said
    for program, *words in shell.noted():
        DRY[program](words, shell.folder)


async def test_the_commands_in_sentences_run(tmp_path: Path) -> None:
    needs("curl")
    commands = {
        re.sub("|".join(PLACES), lambda found: PLACES[found[0]], word)
        for page in GUIDES
        for word in page.code()
        if re.match(r"(?:curl|kubectl \w+|penstock \w+) [^\[]+$", word)
    }
    last = {each for each in commands if "drain" in each}  # then it takes nothing more
    script = "\n".join((*sorted(commands - last), *sorted(last)))
    async with demo_server() as demo:
        shell = Shell(tmp_path, demo.url)
        shell.save("running.jsonc", OPEN)
        status, said = await shell.run([Block("sh", script, 1)], "running.jsonc")

    assert status == 0, said
    for program, *words in shell.noted():
        DRY[program](words, shell.folder)
    assert len(commands) > 8


async def test_a_command_that_fails_is_a_failure_of_its_page(tmp_path: Path) -> None:
    block = Block("sh", "penstock check none.jsonc\necho not reached\n", 1)

    status, said = await Shell(tmp_path, "http://127.0.0.1:9").run([block])

    assert status == 78
    assert "none.jsonc:1:1: error: cannot be read" in said
    assert "+ echo" not in said


def dry_kubectl(words: list[str], folder: Path) -> None:
    """It is run until it asks its API server, since there is none here: Debian has none."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed (Debian: apt-get install kubernetes-client)")
    server = ("kubectl", "--server=http://127.0.0.1:9", "--kubeconfig=/dev/null")
    match words:
        case ["kustomize", place]:
            assert kustomized(folder / place)
            return
        case ["apply" | "diff", "--kustomize", place]:
            assert kustomized(folder / place)
        case ["create", "secret", "generic", "penstock-keys", _]:
            made = output([*server, *words, "--dry-run=client", "--output=yaml"], folder)[1]
            assert yaml.safe_load(made)["data"].keys() == {"web"}
        case ["edit", "configmap", named]:
            places = ("deploy/kustomize/sidecar-tgi", "deploy/examples/tgi-sidecar")
            assert any(["configmap", named] in the_names_in(folder / each) for each in places)
        case ["rollout", "status", named, *_] | ["port-forward", named, _]:
            assert named.split("/") in the_names_in(folder / "deploy/kustomize/sidecar-tgi")
        case _:
            pytest.fail(f"how is this checked without a cluster? kubectl {' '.join(words)}")
    assert "connection refused" in output([*server, *words], folder)[2]


def output(command: list[str], folder: Path) -> tuple[int, str, str]:
    """The status of a command, what it says, and what it complains of."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def the_names_in(folder: Path) -> list[list[str]]:
    """Kind and name of each document."""
    return [[each["kind"].lower(), each["metadata"]["name"]] for each in kustomized(folder)]


def dry_helm(words: list[str], folder: Path) -> None:
    """The chart is rendered by Helm's own library with the values of the page.

    Debian has no `helm`, and without a cluster it could do no more.
    """
    match words:
        case ["install" | "upgrade" | "template", name, chart, *rest]:
            assert rest[::2] in ([], ["--values"])
            values: Document = {}
            for file in rest[1::2]:
                values |= yaml.safe_load((folder / file).read_text())
            with helm_python.Chart.load(folder / chart) as loaded:
                assert loaded.render(values, name=name, namespace="models")
        case _:
            pytest.fail(f"how is this checked without a cluster? helm {' '.join(words)}")


def dry_docker(words: list[str], folder: Path) -> None:
    """Files are there, and images have the version of this tree.

    No engine can be started here. In the image's test buildah does all but `compose`.
    """
    match words:
        case ["compose", "--file", file, "up", *_]:
            assert yaml.safe_load((folder / file).read_text())["services"]
        case ["tag", image, other]:
            assert (image, other.rpartition("/")[2]) == (f"penstock:{__version__}",) * 2
        case ["push", other]:
            assert other.endswith(f"/penstock:{__version__}")
        case _:
            pytest.fail(f"how is this checked without an engine? docker {' '.join(words)}")


def dry_pip(words: list[str], folder: Path) -> None:
    """This tree is installed; test_docs_install.py does it, with the package index."""
    assert words == ["install", "."]
    assert (folder / "setup.cfg").exists()


def dry_git(words: list[str], folder: Path) -> None:
    """Nothing here knows where the repository is."""
    pytest.fail(f"a repository's address is not known: git {' '.join(words)} in {folder}")


DRY: dict[str, Callable[[list[str], Path], None]] = {
    "docker": dry_docker,
    "git": dry_git,
    "helm": dry_helm,
    "kubectl": dry_kubectl,
    "pip": dry_pip,
}


def test_whatever_is_not_run_is_looked_at() -> None:
    assert set(DRY) == set(NOTED)


@pytest.mark.parametrize("page", GUIDES, ids=str)
def test_no_commands_hide_in_a_block_of_another_kind(page: Page) -> None:
    fences = re.findall(r"^[ >]*(?:```|~~~)(.*)$", page.text, re.MULTILINE)
    others = [block for block in page.blocks("", "text", "http", "yaml") if "$ " in block.text]

    assert set(fences[::2]) <= {"", "sh", "json", "jsonc", "yaml", "text", "http"}
    assert set(fences[1::2]) <= {""}
    assert [each for each in others if str(page) != "README.md"] == []


def test_prometheus_reads_what_is_shown_of_its_configuration(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    (shown,) = (block.text for page in GUIDES for block in page.blocks("yaml"))
    # Debian builds it without Kubernetes.
    there = shown.replace("kubernetes_sd_configs: [{role: pod}]", "static_configs: [{targets: []}]")
    (tmp_path / "prometheus.yml").write_text(there)

    said = output(["promtool", "check", "config", "prometheus.yml"], tmp_path)

    assert there != shown
    assert (said[0], said[2]) == (0, "")


def test_make_run_says_what_the_readme_shows() -> None:
    script = (ROOT / "deploy/examples/run.sh").read_text(encoding="utf-8")
    (shown,) = (block for block in Page(ROOT / "README.md").blocks("text"))
    serves, _, asked, answer = shown.text.splitlines()

    assert f"echo '{serves}'" in script
    assert f"echo '{asked}'" in script
    assert f'"$penstock" {asked.removeprefix("$ penstock ")}\n' in script
    assert answer.endswith("it repeats. You said: Why is the sky blue?")


# Configurations


def configurations() -> list[Any]:
    """Every block of JSON that is a configuration, or part of one, with its page."""
    found = []
    for page in GUIDES:
        for block in page.blocks("json", "jsonc"):
            text = (
                block.text if block.text.lstrip().startswith(("{", "//")) else f"{{{block.text}}}"
            )
            value = jsonc.loads(text)
            assert isinstance(value, dict), page
            if value.keys() & {"modelConfiguration", "completions", "penstock"}:
                found.append(pytest.param(value, id=f"{page}:{block.line}"))
    return found


@pytest.mark.parametrize("config", configurations())
def test_a_configuration_passes_the_check(
    config: Document,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = msgspec.json.encode({**around(config), **config}).decode()
    for name in re.findall(r'"env":"(\w+)"', text):
        monkeypatch.setenv(name, f"made up for {name}")
    for file in re.findall(r'"file":"([^"]+)"', text):
        there = tmp_path / file.strip("/").replace("/", "-")
        there.write_text(f"made up for {file}")
        text = text.replace(file, str(there))
    path = tmp_path / "config.jsonc"
    path.write_text(text)

    assert main(["check", str(path)]) == 0, capsys.readouterr().out
    assert "warning" not in capsys.readouterr().out


def around(config: Document) -> Document:
    """The models that a part of a configuration speaks of."""
    text = msgspec.json.encode(config).decode()
    refs = set(re.findall(r'"([\w.-]+::[\w.-]+::[\w./-]+)"', text))
    refs |= {"::v1::".join(name.split("/")) for name in re.findall(r'"([\w-]+/[\w.-]+)"', text)}
    named = {ref.partition("::")[0] for ref in refs} | config.get("penstock", {}).get(
        "providers", {}
    ).keys()
    server = {"type": "openaicompatible", "endpoints": [{"url": "http://127.0.0.1:9/v1"}]}
    bare = (named or {"lab"}) - {ref.partition("::")[0] for ref in refs}
    refs |= {f"{name}::v1::model-of-{name}" for name in bare}
    return {
        "modelConfiguration": {
            "sourcegraph": None,
            "providerOverrides": [
                {"id": name, "serverSideConfig": server} for name in sorted(named or {"lab"})
            ],
            "modelOverrides": [
                {"modelRef": ref, "capabilities": ["chat", "autocomplete"]} for ref in sorted(refs)
            ],
        }
    }
