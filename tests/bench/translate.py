"""What a translation costs in the parsers: CPU time per event, in microseconds.

    python tests/bench/translate.py

One token per read, as servers send them: decode the read, encode what it says. Each figure is the
best of several rounds, which is the one least disturbed by others on the machine.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from time import process_time

sys.path.insert(0, str(Path(__file__).parents[2]))

from parsers.dialects.anthropic import ANTHROPIC
from parsers.dialects.base import Identity
from parsers.dialects.openai import OPENAI_CHAT
from parsers.events import (
    Ended,
    Finished,
    FinishReason,
    Started,
    StreamEvent,
    Text,
    Thinking,
    ToolArguments,
    ToolCall,
    Usage,
)
from parsers.sse import frames

EVENTS = 2000
ROUNDS = 15
GOAL_MICROSECONDS = 4.0
IDENTITY = Identity("chatcmpl-0123456789abcdef", 1767225600, "lab::v1::model")


def answer(pieces: Iterable[StreamEvent]) -> list[StreamEvent]:
    """A whole answer of such pieces."""
    finished = Finished(FinishReason.STOP)
    return [Started("a", "m", 0), *pieces, finished, Usage(9, EVENTS), Ended()]


ANSWERS = {
    "text": answer(Text(f" word{n}") for n in range(EVENTS)),
    "thinking": answer(Thinking(f" word{n}") for n in range(EVENTS)),
    "a tool call": answer(
        [ToolCall(0, "call_1", "f"), *(ToolArguments(0, f"[{n},") for n in range(EVENTS))]
    ),
}


def openai(events: list[StreamEvent]) -> list[bytes]:
    """The answer as an OpenAI server's reads."""
    encode = OPENAI_CHAT.stream_encoder(IDENTITY, include_usage=True).encode
    return frames(b"".join(map(encode, events)))


def anthropic(events: list[StreamEvent]) -> list[bytes]:
    """The answer as Anthropic's reads."""
    encode = ANTHROPIC.stream_encoder(IDENTITY, include_usage=True).encode
    return frames(b"".join(map(encode, events)))


def to_anthropic(reads: list[bytes]) -> None:
    """OpenAI's server, Anthropic's client."""
    feed = OPENAI_CHAT.stream_decoder().feed
    encode = ANTHROPIC.stream_encoder(IDENTITY, include_usage=True).encode
    for read in reads:
        b"".join([encode(event) for event in feed(read)])


def to_openai(reads: list[bytes]) -> None:
    """Anthropic's server, OpenAI's client."""
    feed = ANTHROPIC.stream_decoder().feed
    encode = OPENAI_CHAT.stream_encoder(IDENTITY, include_usage=True).encode
    for read in reads:
        b"".join([encode(event) for event in feed(read)])


def microseconds(translate: Callable[[list[bytes]], None], reads: list[bytes]) -> float:
    """CPU time per read, in the best round."""
    best = float("inf")
    for _ in range(ROUNDS):
        since = process_time()
        translate(reads)
        best = min(best, process_time() - since)
    return best / len(reads) * 1e6


def main() -> int:
    """Print the figures; 1 if one misses its goal."""
    gc.disable()
    worst = 0.0
    for name, events in ANSWERS.items():
        forth = microseconds(to_anthropic, openai(events))
        back = microseconds(to_openai, anthropic(events))
        worst = max(worst, forth, back)
        sys.stdout.write(f"{name:12} OpenAI to Anthropic {forth:.2f} µs, back {back:.2f} µs\n")
    sys.stdout.write(f"goal: at most {GOAL_MICROSECONDS} µs per event\n")
    return int(worst > GOAL_MICROSECONDS)


if __name__ == "__main__":
    sys.exit(main())
