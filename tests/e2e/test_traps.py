"""Streams that readers stumble over, before the official clients: they are read to the end, right.

On the exact path too, where the server's own bytes would make some of these clients fail.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from tests.e2e.actors import KINDS, Actor
from tests.e2e.readers import CLIENTS, Heard
from tests.e2e.voices import Voice
from tests.harness import penstock
from tests.scripted import LAST_CHUNK, Conversation, Upstream, chunk, response

BEFORE = {client.name: client.read for client in CLIENTS}
SERVERS = {kind.name: kind for kind in KINDS}
# Client and server: the first five speak one dialect, the others are translated.
PAIRS = (
    ("chat", "compatible"),
    ("completions", "compatible"),
    ("messages", "anthropic"),
    ("generate", "tgi-native"),
    ("responses", "openai"),
    ("messages", "compatible"),
    ("stream-9", "compatible"),
    ("chat", "gemini"),
)

Spoil = Callable[[list[bytes]], list[bytes]]


def second(how: Callable[[bytes], bytes]) -> Spoil:
    """What changes the frame of the first word alone."""

    def spoil(frames: list[bytes]) -> list[bytes]:
        return [
            how(frame) if b"Hello" in frame and b" there" not in frame else frame
            for frame in frames
        ]

    return spoil


def each(how: Callable[[bytes], bytes]) -> Spoil:
    return lambda frames: [how(frame) for frame in frames]


def before_each(block: bytes) -> Spoil:
    return lambda frames: [block + frame for frame in frames]


def saying(text: bytes) -> Spoil:
    return second(lambda frame: frame.replace(b"Hello", text))


class Trap(msgspec.Struct, frozen=True):
    """What is done to the frames, and the first word as it is heard."""

    spoil: Spoil
    heard: tuple[str, ...] = ("Hello",)


TRAPS = {
    "byte order mark": Trap(lambda frames: [b"\xef\xbb\xbf" + frames[0], *frames[1:]]),
    "CRLF": Trap(each(lambda frame: frame.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))),
    "CR": Trap(each(lambda frame: frame.replace(b"\r\n", b"\n").replace(b"\n", b"\r"))),
    "no space": Trap(each(lambda frame: frame.replace(b"data: ", b"data:", 1))),
    "comments": Trap(before_each(b": still here\n\n")),
    "comments after an id": Trap(before_each(b"id: 7\n\n: still here\n\n")),
    "ids": Trap(each(lambda frame: b"id: 7\n" + frame)),
    "retry times": Trap(before_each(b"retry: 3000\n\n")),
    "names without data": Trap(before_each(b"event: nothing\n\n")),
    "keep-alives as data": Trap(before_each(b"data: : keepalive\n\n")),
    "empty data": Trap(before_each(b"data:\n\n")),
    "not UTF-8": Trap(saying(b"He\xffllo"), ("He\ufffdllo",)),
    "U+2028, U+0085": Trap(saying("He\u2028\u0085llo".encode()), ("He\u2028\u0085llo",)),
    "half a character": Trap(
        saying(b"He\\ud83dllo"),
        ("He\ud83dllo", "He\ufffdllo"),  # exact, translated
    ),
    "two megabytes": Trap(saying(b"Hello" * 400_000), ("Hello" * 400_000,)),
    "no names of events": Trap(
        each(
            lambda frame: b"".join(line for line in frame.splitlines(True) if line[:6] != b"event:")
        )
    ),
    "no last blank line": Trap(lambda frames: [*frames[:-1], frames[-1].rstrip()]),
    "everything in one read": Trap(lambda frames: [b"".join(frames)]),
    "byte by byte": Trap(lambda frames: [bytes([byte]) for frame in frames for byte in frame]),
}


# What Hugging Face's client cannot read from anybody.
UNREADABLE = {("generate", "CR"), ("generate", "two megabytes")}


class Trapper(Actor):
    """A server whose streams are spoiled."""

    spoil: Spoil

    async def _stream(self, up: Conversation, voice: Voice) -> None:
        up.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n")
        up.send(b"content-type: %b\r\n\r\n" % voice.content_type.encode())
        for piece in self.spoil(voice.stream(self.play)):
            up.send(chunk(piece))
            await up.pause()
        up.send(LAST_CHUNK)


@pytest.mark.parametrize(("client", "server"), PAIRS, ids=lambda each: each)
async def test_a_stream_is_read_to_its_end_however_it_is_written(client: str, server: str) -> None:
    actor, wrong = Trapper(SERVERS[server]), dict[str, Heard | str]()
    async with (
        Upstream(actor) as upstream,
        penstock(SERVERS[server].config(upstream.url)) as proxy,
    ):
        for name, trap in TRAPS.items():
            if (client, name) in UNREADABLE:
                continue
            actor.spoil = trap.spoil
            try:
                got = await BEFORE[client](proxy, True, False)
            except Exception as error:  # noqa: BLE001 - whatever the client dies of
                wrong[name] = repr(error)
                continue
            said = (f"{heard} there" for heard in trap.heard)
            if got.text not in said or (got.whole, got.error) != (True, ""):
                got.text = got.text[:99]
                wrong[name] = got

    assert not wrong, "\n".join(map(str, wrong.items()))


@pytest.mark.parametrize(("client", "server"), PAIRS, ids=lambda each: each)
async def test_a_whole_answer_that_is_not_utf_8_is_read(client: str, server: str) -> None:
    class Spoiler(Actor):
        def _whole(self, up: Conversation, voice: Voice) -> None:
            body = voice.whole.encode().replace(b"Hello", b"He\xffllo")
            up.send(response(body, headers=b"content-type: application/json\r\n"))

    async with (
        Upstream(Spoiler(SERVERS[server])) as upstream,
        penstock(SERVERS[server].config(upstream.url)) as proxy,
    ):
        got = await BEFORE[client](proxy, False, False)

    assert (got.text, got.whole, got.error) == ("He\ufffdllo there", True, "")
