"""Which balance keeps the engines' prefix caches warm: a trace of conversations, replayed.

    python tests/bench/affinity.py --engines 4 --cache-tokens 150000

Conversations arrive at random, begin with one of a few shared system prompts, and go on after a
time to think; each turn sends the whole conversation again. Each engine keeps blocks of 16 tokens,
the least recently used go first, and a prompt hits for as long as its blocks follow each other
from the beginning, as in vLLM. A request takes the prefill of what missed, and its decode.
What chooses the engine is `proxy.traffic.balance` itself.
"""

from __future__ import annotations

import argparse
import sys
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from heapq import heappop, heappush
from pathlib import Path
from random import Random
from statistics import mean

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from proxy.config.rules import AffinityRules
from proxy.traffic.balance import Balancer, LeastInflight, PrefixAffinity, RoundRobin

BLOCK_TOKENS = 16
TOKEN_CHARACTERS = 4
PREFILL_TOKENS_PER_SECOND = 8000
DECODE_TOKENS_PER_SECOND = 40
LOAD_FACTOR = 1.25  # penstock's default

# A block of a prompt: whose text it is of, and its number there.
Block = tuple[str, int]


@dataclass(frozen=True)
class Trace:
    """What the load is like."""

    engines: int = 4
    cache_tokens: int = 150_000  # of each engine
    conversations: int = 1500
    conversations_per_second: float = 2.0
    turns: int = 8  # at most; at least one
    think_seconds: float = 20.0  # in the mean
    system_prompts: int = 12
    system_tokens: int = 800  # about
    seed: int = 1


@dataclass(frozen=True)
class Turn:
    """One request."""

    conversation: int
    system: int
    blocks: tuple[Block, ...]
    answer_tokens: int


@dataclass(frozen=True)
class Result:
    """How a balance did."""

    hit_rate: float  # of all prompt tokens, from the cache
    prefill_seconds: float  # mean per request
    unevenness: float  # the busiest engine's requests over the mean, when each request came


class Engine:
    """A simulated engine; a candidate to the balancers."""

    weight = 1.0

    def __init__(self, key: str, cache_tokens: int) -> None:
        self.key = key
        self.inflight = 0
        self._blocks: OrderedDict[Block, None] = OrderedDict()
        self._limit = cache_tokens // BLOCK_TOKENS

    def prefill(self, blocks: tuple[Block, ...]) -> int:
        """How many of these blocks were cached; now all are."""
        hits = next((n for n, each in enumerate(blocks) if each not in self._blocks), len(blocks))
        for each in reversed(blocks):  # the end of a prompt goes before its beginning
            self._blocks[each] = None
            self._blocks.move_to_end(each)
        while len(self._blocks) > self._limit:
            self._blocks.popitem(last=False)
        return hits


def blocks_of(name: str, tokens: int) -> tuple[Block, ...]:
    return tuple((name, number) for number in range(tokens // BLOCK_TOKENS))


def text_of(name: str, tokens: int) -> bytes:
    """So much text that is like no other's."""
    characters = tokens * TOKEN_CHARACTERS
    return (f"{name} " * (characters // (len(name) + 1) + 1)).encode()[:characters]


class Prompts:
    """The texts of a trace, as far as affinity looks into them."""

    def __init__(self, trace: Trace) -> None:
        random = Random(trace.seed)
        spread = range(trace.system_prompts)
        self.tokens = [int(trace.system_tokens * random.uniform(0.5, 1.5)) for _ in spread]
        self._systems = [text_of(f"system {n}", self.tokens[n]) for n in spread]

    def beginning(self, turn: Turn, characters: int) -> bytes:
        """As `Asked.prefix`, without the JSON around it."""
        first = text_of(f"question {turn.conversation}", 100)
        return (self._systems[turn.system] + first)[:characters]


def turns_of(trace: Trace, prompts: Prompts, number: int, random: Random) -> Iterator[Turn]:
    """A conversation, turn by turn."""
    system = min(int(random.paretovariate(1.0)) - 1, trace.system_prompts - 1)  # some are popular
    tokens = 0
    for _ in range(random.randint(1, trace.turns)):
        tokens += random.randint(50, 200)
        blocks = blocks_of(f"s{system}", prompts.tokens[system]) + blocks_of(f"c{number}", tokens)
        answer = random.randint(50, 400)
        yield Turn(number, system, blocks, answer)
        tokens += answer


class Replay:
    """A trace under way; times are of the simulation."""

    def __init__(self, trace: Trace, balancer: Balancer, *, by_header: bool = False) -> None:
        self._trace = trace
        self._balancer = balancer
        self._by_header = by_header  # a header names the conversation
        self._prompts = Prompts(trace)
        self._random = Random(trace.seed)
        self._engines = [
            Engine(f"http://engine-{n}", trace.cache_tokens) for n in range(trace.engines)
        ]
        self._hits = self._asked = 0
        self._prefills: list[float] = []
        self._unevenness: list[float] = []

    def run(self) -> Result:
        """Until all conversations have ended."""
        events: list[tuple[float, int, Iterator[Turn] | Engine]] = []
        now = 0.0
        for number in range(self._trace.conversations):
            now += self._random.expovariate(self._trace.conversations_per_second)
            random = Random(f"{self._trace.seed} {number}")
            heappush(events, (now, number, turns_of(self._trace, self._prompts, number, random)))
        order = self._trace.conversations
        while events:
            now, _, what = heappop(events)
            if isinstance(what, Engine):
                what.inflight -= 1
                continue
            turn = next(what, None)
            if turn is None:
                continue
            engine, done = self._ask(turn, now)
            thought = done + self._random.expovariate(1 / self._trace.think_seconds)
            heappush(events, (done, order, engine))
            heappush(events, (thought, order + 1, what))
            order += 2
        return Result(self._hits / self._asked, mean(self._prefills), mean(self._unevenness))

    def _ask(self, turn: Turn, now: float) -> tuple[Engine, float]:
        engine = self._balancer.choose(self._engines, partial(self._key, turn))
        engine.inflight += 1
        hits = engine.prefill(turn.blocks)
        self._hits += hits
        self._asked += len(turn.blocks)
        prefill = (len(turn.blocks) - hits) * BLOCK_TOKENS / PREFILL_TOKENS_PER_SECOND
        self._prefills.append(prefill)
        loads = [each.inflight for each in self._engines]
        self._unevenness.append(max(loads) / mean(loads))
        return engine, now + prefill + turn.answer_tokens / DECODE_TOKENS_PER_SECOND

    def _key(self, turn: Turn, rules: AffinityRules) -> bytes:
        if self._by_header:
            return b"%d" % turn.conversation
        return self._prompts.beginning(turn, rules.characters)


def affinity(characters: int) -> PrefixAffinity:
    return PrefixAffinity(AffinityRules(characters=characters, load_factor=LOAD_FACTOR))


def compared(trace: Trace) -> dict[str, Result]:
    """Each balance on the same trace."""
    ways: dict[str, Balancer] = {
        "roundRobin": RoundRobin(),
        "leastInflight": LeastInflight(Random(trace.seed)),
        "prefixAffinity, 512 characters": affinity(512),
        "prefixAffinity, 8192 characters": affinity(8192),
    }
    results = {name: Replay(trace, way).run() for name, way in ways.items()}
    by_header = Replay(trace, affinity(512), by_header=True).run()
    return {**results, "prefixAffinity, a header per conversation": by_header}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in vars(Trace()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    trace = replace(Trace(), **vars(parser.parse_args()))
    print("| balance | prompt tokens from the cache | prefill, mean | busiest over mean |")
    print("|---|---:|---:|---:|")
    for name, result in compared(trace).items():
        hits, prefill = f"{result.hit_rate:.0%}", f"{result.prefill_seconds * 1000:.0f} ms"
        print(f"| {name} | {hits} | {prefill} | {result.unevenness:.2f} |")


if __name__ == "__main__":
    main()
