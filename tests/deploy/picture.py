"""Draws the dashboard's main panels from a run before a real Prometheus: `make dashboard`.

    python -m tests.deploy.picture docs/dashboard.svg

First all is well, then a third of the time there is trouble of every kind, then it is over.
"""

from __future__ import annotations

import asyncio
import math
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import msgspec

from proxy.commands.rules import rules_for
from tests.deploy.prometheus import Prometheus, hurried, prometheus, webhook
from tests.deploy.staged import GOODS, broken, content, crowded, flaky, stage, unserved

TITLES = (
    *("Requests by ending", "Where the time goes", "In flight and waiting"),
    *("First token", "Calls by verdict", "Tokens for nobody"),
)
WELL_SECONDS, TROUBLE_SECONDS, AFTER_SECONDS = 20, 25, 15
STEP_SECONDS = 1
COLUMNS = 2
WIDTH, HEIGHT = 470, 270  # of a panel
LEFT, TOP, RIGHT, BOTTOM = 44, 34, 10, 82  # around its lines
MOST_LINES = 8
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#888888", "#dd8844")

Points = list[float]


class Line(msgspec.Struct, frozen=True):
    """A line of a panel; NaN where there is nothing."""

    name: str
    points: Points


async def recorded(folder: Path) -> list[tuple[dict[str, Any], list[Line]]]:
    """The panels and their lines, after the run."""
    async with stage(folder) as play, webhook() as hook:
        rules = hurried(rules_for({}), 1)
        async with prometheus(folder, play.targets[:1], rules, hook) as prom:
            began = datetime.now(UTC).timestamp()
            async with asyncio.TaskGroup() as group:
                play.begin(group, *GOODS, content)
                await asyncio.sleep(WELL_SECONDS)
                play.begin(group, broken, flaky, unserved, *(12 * (crowded,)))
                await asyncio.sleep(TROUBLE_SECONDS)
                play.end()
            play.resume()
            async with asyncio.TaskGroup() as group:
                play.begin(group, *GOODS, content)
                await asyncio.sleep(AFTER_SECONDS)
                play.end()
            board = msgspec.json.decode(Path("deploy/grafana/penstock.json").read_bytes())
            panels = {panel["title"]: panel for panel in board["panels"]}
            ended = datetime.now(UTC).timestamp()
            return [(panels[t], await lines_of(prom, panels[t], began, ended)) for t in TITLES]


async def lines_of(
    prom: Prometheus, panel: dict[str, Any], began: float, ended: float
) -> list[Line]:
    """What Grafana would draw."""
    count = int((ended - began) / STEP_SECONDS) + 1
    found = []
    for target in panel["targets"]:
        answer = await prom.get(
            "query_range",
            query=target["expr"].replace("$__rate_interval", "4s").replace("$model", ".+"),
            start=str(began),
            end=str(ended),
            step=str(STEP_SECONDS),
        )
        for series in answer["result"]:
            points = [math.nan] * count
            for at, value in series["values"]:
                points[round((at - began) / STEP_SECONDS)] = float(value)
            found.append(Line(named(target["legendFormat"], series["metric"]), points))
    found.sort(key=lambda line: -total(line.points))
    return [line for line in found[:MOST_LINES] if total(line.points) > 0]


def named(form: str, labels: dict[str, str]) -> str:
    """The line's name in the legend."""
    for label, value in labels.items():
        form = form.replace(f"{{{{{label}}}}}", value)
    return form


def total(points: Points) -> float:
    """The sum of what is there."""
    return sum(point for point in points if not math.isnan(point))


# -- drawing


def drawing(panels: Sequence[tuple[dict[str, Any], list[Line]]]) -> str:
    """All panels, as SVG."""
    rows = math.ceil(len(panels) / COLUMNS)
    width, height = COLUMNS * WIDTH, rows * HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for index, (panel, lines) in enumerate(panels):
        x, y = index % COLUMNS * WIDTH, index // COLUMNS * HEIGHT
        parts.append(f'<g transform="translate({x} {y})">{drawn(panel, lines)}</g>')
    return "\n".join([*parts, "</svg>\n"])


def drawn(panel: dict[str, Any], lines: list[Line]) -> str:
    """One panel."""
    is_stacked = "stacking" in panel["fieldConfig"]["defaults"]["custom"]
    unit = {"s": " s", "reqps": "/s"}.get(panel["fieldConfig"]["defaults"]["unit"], "")
    shapes = stacked(lines) if is_stacked else [(line.points, line.points) for line in lines]
    top = nice(max((p for _, upper in shapes for p in upper if not math.isnan(p)), default=1))
    parts = [
        f'<text x="{LEFT}" y="20" font-size="13" font-weight="bold" fill="#222222">'
        f"{escape(panel['title'])}</text>",
        *grid(top, unit),
    ]
    for number, (lower, upper) in enumerate(shapes):
        colour = COLOURS[number]
        if is_stacked:
            outline = " ".join([*coordinates(upper, top), *reversed(coordinates(lower, top))])
            parts.append(f'<polygon points="{outline}" fill="{colour}" fill-opacity="0.7"/>')
        else:
            parts += [
                f'<polyline points="{" ".join(piece)}" fill="none" stroke="{colour}"'
                ' stroke-width="1.5"/>'
                for piece in unbroken(upper, top)
            ]
    return "\n".join([*parts, *legend(lines)])


def stacked(lines: list[Line]) -> list[tuple[Points, Points]]:
    """Each line on top of those before it: from where to where."""
    below = [0.0] * (len(lines[0].points) if lines else 0)
    shapes = []
    for line in lines:
        above = [
            under + (0 if math.isnan(p) else p) for under, p in zip(below, line.points, strict=True)
        ]
        shapes.append((below, above))
        below = above
    return shapes


def nice(value: float) -> float:
    """The next round number above."""
    if value <= 0:
        return 1
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value)


def place(index: int, count: int, value: float, top: float) -> tuple[float, float]:
    """Where a point is drawn."""
    x = LEFT + index / max(count - 1, 1) * (WIDTH - LEFT - RIGHT)
    y = TOP + (1 - min(value / top, 1)) * (HEIGHT - TOP - BOTTOM)
    return x, y


def coordinates(points: Points, top: float) -> list[str]:
    """As SVG writes them."""
    places = (place(index, len(points), point, top) for index, point in enumerate(points))
    return [f"{x:.1f},{y:.1f}" for x, y in places]


def unbroken(points: Points, top: float) -> list[list[str]]:
    """The pieces of a line between its gaps."""
    pieces: list[list[str]] = [[]]
    for index, point in enumerate(points):
        if math.isnan(point):
            pieces.append([])
        else:
            x, y = place(index, len(points), point, top)
            pieces[-1].append(f"{x:.1f},{y:.1f}")
    return [piece for piece in pieces if len(piece) > 1]


def grid(top: float, unit: str) -> list[str]:
    """Lines behind, with what they stand for."""
    parts = []
    for step in range(5):
        value = top * step / 4
        _, y = place(0, 1, value, top)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>'
            f'<text x="{LEFT - 4}" y="{y + 4:.1f}" text-anchor="end" fill="#666666">'
            f"{value:g}{unit}</text>"
        )
    seconds = WELL_SECONDS + TROUBLE_SECONDS + AFTER_SECONDS
    for at in range(0, seconds + 1, 10):
        x = LEFT + at / seconds * (WIDTH - LEFT - RIGHT)
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle" fill="#666666">'
            f"{at} s</text>"
        )
    return parts


def legend(lines: list[Line]) -> list[str]:
    """Whose line has which colour, in two columns."""
    parts = []
    for number, line in enumerate(lines):
        x = LEFT + number % 2 * (WIDTH - LEFT) // 2
        y = HEIGHT - BOTTOM + 30 + number // 2 * 13
        parts.append(
            f'<rect x="{x}" y="{y - 8}" width="9" height="9" fill="{COLOURS[number]}"/>'
            f'<text x="{x + 14}" y="{y}" fill="#333333">{escape(line.name)}</text>'
        )
    return parts


def main(path: str) -> None:
    """Run, and draw."""
    with tempfile.TemporaryDirectory() as folder:
        panels = asyncio.run(recorded(Path(folder)))
    Path(path).write_text(drawing(panels), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
