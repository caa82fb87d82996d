"""What scripted model servers say: frames of chat streams, and scripts that send them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Script, chunk

ROLE = b'data: {"id":"x","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
TOKEN = (
    b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'
)
FINISH = b'data: {"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = (
    b'data: {"id":"x","choices":[],"usage":'
    b'{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}\n\n'
)
DONE = b"data: [DONE]\n\n"
ANSWER = TOKEN + FINISH + DONE

# Spaced as no encoder of ours would: it must arrive like this.
WHOLE = (
    b'{ "id": "x", "choices": [ {"index":0, "message": {"role":"assistant",\n "content":'
    b'"Hi \\u00e9"},"finish_reason":"stop"} ],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n'
)


def whole_saying(text: bytes) -> bytes:
    """A whole chat answer with this text, which needs no escaping."""
    return (
        b'{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"%b"},'
        b'"finish_reason":"stop"}]}' % text
    )


def same(raw: bytes) -> Script:
    """A script that answers every request with these bytes, in one write."""

    async def script(up: Conversation) -> None:
        async for _ in up.requests():
            up.send(raw)

    return script


def stream(*frames: bytes) -> bytes:
    """A whole streamed response, each argument in a chunk of its own."""
    return STREAM_HEAD + b"".join(chunk(frame) for frame in frames) + LAST_CHUNK


async def in_reads(up: Conversation, reads: Iterable[bytes], head: bytes = STREAM_HEAD) -> None:
    """A streamed response without its end mark: the head is one read, and each piece another."""
    up.send(head)
    await up.pause()
    for piece in reads:
        up.send(chunk(piece))
        await up.pause()


def turns(*answers: Sequence[bytes]) -> Script:
    """A script that streams the first answer to the first request, and so on."""
    waiting = iter(answers)

    async def script(up: Conversation) -> None:
        async for _ in up.requests():
            await in_reads(up, next(waiting))
            up.send(LAST_CHUNK)

    return script
