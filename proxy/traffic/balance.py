"""Which of several open endpoints gets a request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import count
from math import ceil, log
from random import Random
from typing import Protocol, TypeAlias, TypeVar

from proxy.config.rules import AffinityRules, Rules


class Candidate(Protocol):
    """An endpoint, as far as choosing goes."""

    @property
    def key(self) -> str:
        """What it is known by, also after a restart and in another replica."""

    @property
    def inflight(self) -> int:
        """How many requests it has."""

    @property
    def weight(self) -> float:
        """Its share, relative to the others; above zero."""


C = TypeVar("C", bound=Candidate)
# The beginning of the prompt, or the header, that affinity hashes; made only where it is wanted.
Key: TypeAlias = Callable[[AffinityRules], bytes]


class Balancer(Protocol):
    """A way to choose. `candidates` has at least two, in the order of the file."""

    def choose(self, candidates: Sequence[C], key: Key) -> C:
        """The one that gets the request."""


class LeastInflight:
    """The less busy of two drawn at random: near the best, and no herd when one comes back."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def choose(self, candidates: Sequence[C], key: Key) -> C:
        """The one with fewer requests for its weight."""
        del key
        one, other = self._random.sample(candidates, 2)
        return one if _load(one) <= _load(other) else other


class RoundRobin:
    """One after the other."""

    def __init__(self) -> None:
        self._turn = count()

    def choose(self, candidates: Sequence[C], key: Key) -> C:
        """The next one."""
        del key
        return candidates[next(self._turn) % len(candidates)]


class Weighted:
    """At random, in the proportion of the weights, however busy they are."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def choose(self, candidates: Sequence[C], key: Key) -> C:
        """The one that was drawn."""
        del key
        return self._random.choices(candidates, [each.weight for each in candidates])[0]


class PrefixAffinity:
    """The same key goes to the same endpoint, unless that one has far more to do than the others.

    Weighted rendezvous hashing: an endpoint that comes or goes moves no key but its own. Bounded
    load: none gets more than `load_factor` times its share of what is in flight.
    """

    def __init__(self, rules: AffinityRules) -> None:
        self._rules = rules

    def choose(self, candidates: Sequence[C], key: Key) -> C:
        """The first in the key's order that has room."""
        text = blake2b(key(self._rules), digest_size=16).digest()  # once: it may be long
        order = sorted(candidates, key=lambda each: _score(text, each), reverse=True)
        total = sum(each.inflight for each in order) + 1
        weights = sum(each.weight for each in order)
        for each in order:
            if each.inflight < ceil(self._rules.load_factor * total * each.weight / weights):
                return each
        return order[0]


def _load(candidate: Candidate) -> float:
    return (candidate.inflight + 1) / candidate.weight


def _score(key: bytes, candidate: Candidate) -> float:
    digest = blake2b(b"%b\0%b" % (candidate.key.encode(), key), digest_size=8).digest()
    share = (int.from_bytes(digest) + 1) / (2**64 + 1)  # between 0 and 1, neither included
    return -candidate.weight / log(share)


def balancer_for(rules: Rules, random: Random | None = None) -> Balancer:
    """The balancer that the rules name."""
    random = random or Random()  # noqa: S311 - spreads load, guards nothing
    match rules.balance:
        case "leastInflight":
            return LeastInflight(random)
        case "roundRobin":
            return RoundRobin()
        case "weighted":
            return Weighted(random)
        case "prefixAffinity":
            return PrefixAffinity(rules.affinity)
