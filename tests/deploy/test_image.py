"""The image: what its Dockerfile promises, and the image itself, built and run."""

from __future__ import annotations

import asyncio
import re
import stat
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import aiohttp
import msgspec
import pytest
from packaging.requirements import Requirement

from proxy import __version__
from tests.deploy.image import Image, Workshop, needs, workshop
from tests.deploy.manifests import DEPLOY
from tests.e2e.demo_server import demo_server
from tests.e2e.program import Program, killed
from tests.harness import chat, config_for
from tests.pages import ROOT, Page

DOCKERFILE = (DEPLOY / "docker/Dockerfile").read_text()
EXTRAS = ("bedrock", "google")
VERTEX = (
    "https://aiplatform.googleapis.com/v1/projects/lab/locations/global/publishers/google/models"
)
NAME = f"localhost/penstock:{__version__}"


def instructions(text: str = DOCKERFILE) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, each on one line."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = [line for line in joined.splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


# -- what can be read


def test_the_base_is_an_argument_with_a_fixed_default() -> None:
    (first, base), (second, build), *rest = instructions()

    assert (first, base) == ("ARG", "BASE=python:3.13-slim")
    assert (second, build) == ("FROM", "${BASE} AS build")
    assert [value for name, value in rest if name == "FROM"] == ["scratch"]


def test_nothing_is_fetched_but_what_the_lock_file_names_by_hash() -> None:
    found = instructions()

    assert [value for name, value in found if name == "ADD" or "curl" in value] == []
    (install,) = [value for name, value in found if name == "RUN" and " install" in value]
    assert "--require-hashes --only-binary :all: --requirement requirements.lock" in install
    assert ("ARG", 'EXTRAS=""') in found


def test_the_last_stage_is_a_number_for_a_user_and_a_command_without_a_shell() -> None:
    last = dict(instructions(DOCKERFILE.split("FROM scratch\n")[1]))

    assert last["USER"] == "65532:65532"
    assert msgspec.json.decode(last["ENTRYPOINT"]) == ["penstock"]
    assert msgspec.json.decode(last["CMD"])[0] == "serve"
    assert f'org.opencontainers.image.version="{__version__}"' in last["LABEL"]
    assert {"RUN", "HEALTHCHECK", "VOLUME", "SHELL"}.isdisjoint(last)


def locked(*names: str) -> dict[str, str]:
    """The pins of these lock files."""
    text = "".join((DEPLOY / f"docker/{name}.lock").read_text() for name in names)
    return dict(re.findall(r"^([\w-]+)==(\S+)", text, re.MULTILINE))


def asked_for(extra: str | None) -> list[Requirement]:
    """What setup.cfg wants, always or for an extra."""
    setup = ConfigParser()
    setup.read(DEPLOY.parent / "setup.cfg")
    lines = (
        setup["options"]["install_requires"]
        if extra is None
        else setup["options.extras_require"][extra]
    )
    return [Requirement(each) for each in lines.splitlines() if each and not each.startswith("#")]


@pytest.mark.parametrize("extra", [None, *EXTRAS])
def test_a_lock_file_has_every_dependency_in_a_version_that_is_allowed_with_its_hashes(
    extra: str | None,
) -> None:
    name = "requirements" if extra is None else f"requirements-{extra}"
    text = (DEPLOY / f"docker/{name}.lock").read_text()

    pins = locked(name)

    wanted = asked_for(extra)
    assert [str(each) for each in wanted if pins.get(each.name, "") not in each.specifier] == []
    assert len(pins) == len(re.findall(r"^\S.*==.*\\$", text, re.MULTILINE)) > len(wanted)
    assert text.count("--hash=sha256:") > len(pins)
    assert "://" not in text


def test_extras_add_to_what_is_always_there_and_agree_with_each_other() -> None:
    base, bedrock, google = map(
        locked, ("requirements", *(f"requirements-{extra}" for extra in EXTRAS))
    )

    assert base.keys().isdisjoint(bedrock | google)
    assert {
        name: bedrock[name] for name in bedrock.keys() & google.keys()
    }.items() <= google.items()


# -- the thing itself


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    needs()
    with workshop(tmp_path_factory.mktemp("image")) as made:
        yield made


@pytest.fixture(scope="module")
def image(shop: Workshop) -> Image:
    """The image, made as the sidecar's page says; it is pushed too."""
    (commands,) = (block for block in blocks("sidecar") if "docker push" in block)
    shop.run(commands)
    return shop.unpacked(NAME)


@pytest.fixture(scope="module")
def image_with_extras(shop: Workshop, image: Image) -> Image:
    """The same with its extras, as the quickstart says."""
    (commands,) = (block for block in blocks("quickstart") if "EXTRAS=" in block)
    shop.run(commands)
    return shop.unpacked(NAME)


def blocks(page: str) -> list[str]:
    """The commands of a page of docs/."""
    return [block.text for block in Page(ROOT / f"docs/{page}.md").blocks("sh")]


@pytest.mark.image
@pytest.mark.timeout(300)
def test_the_image_says_how_to_run_it(image: Image) -> None:
    config = image.config

    assert config.user == "65532:65532"
    assert config.entrypoint == ["penstock"]
    assert config.cmd == ["serve", "--config", "/etc/penstock/config/penstock.jsonc"]
    assert set(config.exposed_ports) == {"8080", "9090"} or set(config.exposed_ports) == {
        "8080/tcp",
        "9090/tcp",
    }
    assert config.labels["org.opencontainers.image.version"] == __version__


@pytest.mark.image
def test_the_page_has_pushed_it(shop: Workshop, image: Image) -> None:
    assert shop.pushed() == {f"registry.example/penstock:{__version__}"}


@pytest.mark.image
def test_there_is_no_shell_no_installer_and_no_way_to_more_rights(image: Image) -> None:
    files = [each for each in image.root.rglob("*") if each.is_file() and not each.is_symlink()]
    programs = {
        each.name
        for each in files
        if each.stat().st_mode & 0o111 and ".so" not in each.name and each.suffix != ".py"
    }
    risen = [each for each in files if each.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)]
    writable = [each for each in files if each.stat().st_mode & stat.S_IWOTH]

    assert {name for name in programs if not name.startswith(("penstock", "python"))} == set()
    assert (risen, writable) == ([], [])
    assert [each for each in files if each.name == "pip" or "/pip/" in str(each)] == []
    assert sum(each.stat().st_size for each in files) < 100_000_000


@pytest.mark.image
async def test_it_serves_as_nobody_from_a_root_that_cannot_be_written(
    image: Image, tmp_path: Path
) -> None:
    config = tmp_path / "penstock.jsonc"
    tmp_path.chmod(0o755)
    async with demo_server() as demo, aiohttp.ClientSession() as web:
        config.write_bytes(msgspec.json.encode(config_for(demo.url, kind="huggingface-tgi")))
        arguments = [*image.config.cmd, "--port=0", "--admin-port=0"]
        process = await asyncio.create_subprocess_exec(
            *image.command(tmp_path, arguments), stdout=PIPE, stderr=PIPE
        )
        program = Program(process, config)
        async with asyncio.TaskGroup() as group:
            group.create_task(program.read())
            try:
                line = await program.logged("listening")
                status = Path(f"/proc/{process.pid}/status").read_text()
                async with web.post(
                    f"{line['clients']}/v1/chat/completions", data=msgspec.json.encode(chat("hi"))
                ) as response:
                    answer = await response.read()
                process.terminate()
                finished = await program.ended()
            finally:
                await killed(process)

    assert answer.endswith(b"data: [DONE]\n\n")
    assert (finished.status, finished.err) == (0, "")
    assert (
        re.findall(r"^(?:Uid|Gid):\s+(.*)$", status, re.MULTILINE) == ["\t".join(["65532"] * 4)] * 2
    )
    assert re.findall(r"^CapEff:\s+(\S+)$", status, re.MULTILINE) == ["0" * 16]
    assert re.findall(r"^NoNewPrivs:\s+(\S+)$", status, re.MULTILINE) == ["1"]


@pytest.mark.image
async def test_its_python_trusts_whom_the_base_trusts_and_cannot_write(
    image: Image, tmp_path: Path
) -> None:
    said = await python(
        image,
        tmp_path,
        "import ssl, pwd, os\n"
        "trusted = ssl.create_default_context().get_ca_certs()\n"
        "print(len(trusted) > 100, pwd.getpwuid(os.getuid())[0])\n"
        "try: open('/x', 'w')\n"
        "except OSError as error: print(error.strerror)\n",
    )

    assert said == "True penstock\nRead-only file system\n"


async def python(image: Image, folder: Path, script: str) -> str:
    """What the image's Python prints."""
    (folder / "script.py").write_text(script)
    folder.chmod(0o755)
    command = image.command(folder, ["/etc/penstock/config/script.py"])
    started = [each.replace("bin/penstock", "bin/python3") for each in command]
    process = await asyncio.create_subprocess_exec(*started, stdout=PIPE)
    out, _ = await process.communicate()
    return out.decode()


@pytest.mark.image
@pytest.mark.parametrize(
    ("server", "missing"),
    [
        ({"type": "awsBedrock", "endpoint": "us-west-2"}, "penstock[bedrock]"),
        ({"type": "google", "endpoint": VERTEX}, "penstock[google]"),
    ],
)
async def test_an_extra_is_there_if_it_was_asked_for(
    server: dict[str, str],
    missing: str,
    image: Image,
    image_with_extras: Image,
    tmp_path: Path,
) -> None:
    config = config_for("")
    (provider,) = config["modelConfiguration"]["providerOverrides"]
    provider["serverSideConfig"] = server
    (tmp_path / "penstock.jsonc").write_bytes(msgspec.json.encode(config))
    tmp_path.chmod(0o755)
    said = []
    for each in (image, image_with_extras):
        command = each.command(tmp_path, ["check", each.config.cmd[-1]])
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
        out, _ = await process.communicate()
        said.append((process.returncode, missing in out.decode()))

    assert said == [(78, True), (0, False)]


@pytest.mark.image
async def test_what_the_extras_bring_loads(image_with_extras: Image, tmp_path: Path) -> None:
    names = ("aiobotocore.session", "cryptography.hazmat.bindings._rust", "google.oauth2._client")
    script = f"import ssl, {', '.join(names)}, google.auth.transport.requests\nprint('loaded')\n"

    assert await python(image_with_extras, tmp_path, script) == "loaded\n"
