"""The pages name what there is: links, files, flags, make targets, series, keys, routes, rooms."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

import msgspec
import pytest

from proxy.commands.dialects import CLIENTS
from proxy.config.jsonschema import json_schema
from proxy.manual import manual
from proxy.metrics.engines import SERIES
from proxy.metrics.families import SECTIONS
from proxy.providers import PROVIDERS
from tests.deploy.manifests import Document
from tests.pages import GUIDES, PAGES, ROOT, Block, Page, pages

# Flags of other programs, which the pages name.
FOREIGN = {
    "--served-model-name": "vLLM",
    "--max-num-seqs": "vLLM",
    "--model-id": "TGI",
    "--max-concurrent-requests": "TGI",
    "--profile": "Docker Compose",
    "--build-arg": "Docker",
    "--spin": "tests/bench/run.py",
}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_leads_somewhere(page: Page) -> None:
    lost = []
    for link in page.links():
        path, _, anchor = link.partition("#")
        there = Page((page.path.parent / path).resolve() if path else page.path)
        if not there.path.exists() or (anchor and anchor not in there.anchors()):
            lost.append(link)

    assert lost == []


def test_the_index_has_every_page() -> None:
    index = Page(ROOT / "docs/README.md")
    linked = {link.partition("#")[0] for link in index.links()}

    assert {page.path.name for page in pages("docs/*.md")} - linked == {"README.md"}


@pytest.mark.parametrize("page", GUIDES, ids=str)
def test_every_file_that_is_named_is_there(page: Page) -> None:
    named = [
        word
        for word in page.code()
        if re.fullmatch(r"(?:proxy|parsers|tests|docs|deploy)/[\w./*-]*", word)
    ]

    assert [word for word in named if not any(ROOT.glob(word.rstrip("/")))] == []


@cache
def flags() -> dict[str, set[str]]:
    """The flags of each command; of the program itself under its own name."""
    sections = re.split(r"^## penstock ", manual(), flags=re.MULTILINE)[1:]
    found = {each.split()[0]: set(re.findall(r"--[\w-]+", each)) for each in sections}
    return found | {"": {"--version"}}


@pytest.mark.parametrize("page", GUIDES, ids=str)
def test_every_flag_that_is_named_is_taken(page: Page) -> None:
    known = flags()
    words = [*page.code(), *(line for block in page.blocks("sh") for line in lines(block))]
    wrong = []
    for word in words:
        said = re.match(r"penstock (\w+)?([^|&;]*)", word)
        if said is not None:
            command = "" if said[1] == "COMMAND" else said[1] or ""
            given = set(re.findall(r"--[\w-]+", said[2])) - {"--help"}
            wrong += [word] if command not in known or given - known[command] else []
        elif flag := re.match(r"--[a-z][\w-]+", word):
            everywhere = set().union(*known.values()) | FOREIGN.keys()
            wrong += [] if flag[0] in everywhere else [word]

    assert wrong == []


def lines(block: Block) -> Iterable[str]:
    """The commands of a block, those that go on in the next line in one."""
    return block.text.replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("page", GUIDES, ids=str)
def test_every_target_of_make_that_is_named_is_there(page: Page) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = {word.split()[1] for word in page.code() if re.fullmatch(r"make [a-z-]+.*", word)}

    assert named <= targets


@pytest.mark.parametrize("page", GUIDES, ids=str)
def test_every_series_that_is_named_is_there(page: Page) -> None:
    families = [*(each for section in SECTIONS.values() for each in section)]
    families += [each.family for each in SERIES.values()]
    named = {
        found[1]
        for word in page.code()
        if (found := re.match(r"(penstock_\w+)(?:\{|$| )", word)) is not None
    }

    assert named <= {each.shown for each in families}


@pytest.mark.parametrize("page", GUIDES, ids=str)
def test_every_key_that_is_named_is_one(page: Page) -> None:
    whole = msgspec.json.decode(
        json_schema({name: kind.settings for name, kind in PROVIDERS.items()})
    )
    blocks = [whole["$defs"][name]["properties"] for name in ("Penstock", "ModelTraffic")]
    wrong = []
    for word in page.code():
        path = word.removeprefix("penstock.").split(".")
        if len(path) > 1 and re.fullmatch(r"[\w.]+", word) and any(path[0] in b for b in blocks):
            wrong += [] if any(is_key(whole["$defs"], b, path) for b in blocks) else [word]

    assert wrong == []


def is_key(definitions: Document, members: Document, path: list[str]) -> bool:
    """Whether there is such a key below these."""
    name, *rest = path
    if name not in members:
        return False
    if not rest:
        return True
    below = members[name].get("$ref", "").rpartition("/")[2]
    return bool(below) and is_key(definitions, definitions[below]["properties"], rest)


@pytest.mark.parametrize("page", GUIDES, ids=str)
def test_every_route_that_is_named_is_there(page: Page) -> None:
    asked = {path for client in CLIENTS for path in client.paths}
    beside = {"/v1/models", "/v1/models/{ref}", "/v1"}
    named = {word for word in page.code() if re.fullmatch(r"/v1(?:/[\w/{}]*)?", word)}

    assert named <= asked | beside


# The map of the code


def test_the_layers_on_the_page_are_those_that_are_held() -> None:
    setup = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    held = re.search(r"^layers =\n((?:    .+\n)+)", setup, re.MULTILINE)
    shown = Page(ROOT / "docs/architecture.md").blocks("text")[-1].text.splitlines()

    assert held is not None
    assert shown == [line.strip() for line in held[1].splitlines()], "copy those of setup.cfg"


def test_every_room_is_on_the_map() -> None:
    named = {
        word for word in Page(ROOT / "docs/architecture.md").code() if word.startswith("proxy/")
    }
    rooms = {
        str(each.relative_to(ROOT))
        for each in (ROOT / "proxy").iterdir()
        if not each.name.startswith("__") and (each.suffix == ".py" or any(each.glob("*.py")))
    }

    assert {room for room in rooms if not any(word.startswith(room) for word in named)} == set()
