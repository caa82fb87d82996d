"""Every client before every kind of server: what is said arrives, and nothing else looks like it.

`readers` are the clients' own SDKs, `actors` the servers. One penstock for each of these.
"""

from __future__ import annotations

import re
from itertools import product

import pytest

from tests.e2e.actors import KINDS, Actor, Kind
from tests.e2e.readers import CLIENTS, Client, Heard
from tests.e2e.voices import KEY, SAID, TGI, Play
from tests.harness import penstock
from tests.scripted import Upstream

BOTH = (True, False)
NEVER = re.compile(rf"{KEY}|10\.9\.8\.7|Traceback|server\.py")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_what_the_server_says_is_what_each_client_hears(kind: Kind) -> None:
    actor, wrong = Actor(kind), []
    async with Upstream(actor) as upstream, penstock(kind.config(upstream.url)) as proxy:
        for client, play, stream in product(CLIENTS, Play, BOTH):
            actor.play = play
            if play is Play.CALL and not client.calls:
                continue
            got = await client.read(proxy, stream, play is Play.CALL)
            try:
                check(actor, client, stream, got)
            except AssertionError:
                wrong.append((client.name, play.name, stream, got))

    assert not wrong, "\n".join(map(str, wrong))


def check(actor: Actor, client: Client, stream: bool, got: Heard) -> None:
    voice = actor.spoke
    assert NEVER.search(repr(got)) is None
    match actor.play:
        case Play.ANSWER:
            assert (got.text, got.whole, got.error) == ("Hello there", True, "")
            assert got.thought == ("Well." if client.thinks and voice.thought else "")
            assert got.usage == ((5, 3) if client.counts else None) or not stream
        case Play.CALL if voice.call:
            assert (got.calls, got.whole) == ([("weather", '{"city":"Oslo"}')], True)
        case Play.CALL:
            assert got.status == 400
        case Play.REFUSE:
            is_busy = client.name == "messages" and voice.refusal == TGI.refusal
            assert got.status == (529 if is_busy else 429)  # each protocol's own way to say it
            assert (got.retry_after, got.whole) == ("7", False)
            assert SAID in got.error
        case Play.FAIL_FIRST:
            assert SAID in got.error
            assert not got.whole
            assert got.status >= 400 or client.name.startswith(("stream", "code"))
        case Play.FAIL_LATER:
            assert SAID in got.error
            assert not got.whole
            assert got.text == ("Hello" if stream else "")
        case Play.CUT:
            assert got.error
            assert not got.whole
            assert got.text == ("Hello" if stream else "")
