"""A page of Markdown as a test reads it: its blocks, headings, links and words of code."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[1]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6} (.+?)\s*$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_UNFIT = re.compile(r"[^\w\- ]")
_NAMED = re.compile(r"// ([\w-]+\.jsonc)\n")


class Block(msgspec.Struct, frozen=True):
    """A fenced block, and the line of the page where it begins."""

    kind: str
    text: str
    line: int

    @property
    def name(self) -> str | None:
        """The file that it is to be saved as, if its first line says so."""
        found = _NAMED.match(self.text)
        return found and found[1]


class Page(msgspec.Struct, frozen=True):
    """A page."""

    path: Path

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text(encoding="utf-8")

    @property
    def prose(self) -> str:
        """What is not in a block."""
        return _FENCE.sub("", self.text)

    def blocks(self, *kinds: str) -> list[Block]:
        """The blocks of these kinds, in their order."""
        text = self.text
        found = (
            Block(each[1], each[2], text.count("\n", 0, each.start()) + 1)
            for each in _FENCE.finditer(text)
        )
        return [block for block in found if block.kind in kinds]

    def anchors(self) -> set[str]:
        """What a link into the page may name: its headings, as forges do."""
        seen: dict[str, int] = {}
        for heading in _HEADING.findall(self.prose):
            slug = _UNFIT.sub("", heading.lower()).replace(" ", "-")
            seen[slug] = seen.get(slug, -1) + 1
        numbered = {
            f"{slug}-{number}" for slug, last in seen.items() for number in range(1, last + 1)
        }
        return seen.keys() | numbered

    def links(self) -> list[str]:
        """Where its links lead, those to other machines apart."""
        return [link for link in _LINK.findall(self.prose) if "://" not in link]

    def code(self) -> list[str]:
        """Its words of code, in prose and tables."""
        return _CODE.findall(self.prose)


def pages(*patterns: str) -> list[Page]:
    """The pages of the repository whose paths fit."""
    return [Page(path) for pattern in patterns for path in sorted(ROOT.glob(pattern))]


PAGES = pages("*.md", "docs/**/*.md", "deploy/**/*.md")
# Decisions are of their day; all other pages are of today.
GUIDES = [page for page in PAGES if page.path.parent.name != "adr"]
