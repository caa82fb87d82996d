"""Which of an upstream's response headers a client gets to see."""

from __future__ import annotations

from parsers.events import Usage
from proxy.transport import ResponseHead

# The servers' own accounts of a request; nothing that names hosts, cookies or proxies.
PASSED_ON = frozenset(
    {
        b"fireworks-cached-prompt-tokens",
        b"openai-processing-ms",
        b"x-compute-characters",
        b"x-compute-time",
        b"x-compute-type",
        b"x-generated-tokens",
        b"x-inference-time",
        b"x-prompt-tokens",
        b"x-queue-time",
        b"x-time-per-token",
        b"x-total-time",
        b"x-validation-time",
    }
)

_COUNTS = (b"x-prompt-tokens", b"x-generated-tokens")


def passed_on(head: ResponseHead) -> bytes:
    """The allowed ones, as header lines."""
    if PASSED_ON.isdisjoint(head.headers):
        return b""
    return b"".join(
        [b"%b: %b\r\n" % (name, value) for name, value in head.headers.items() if name in PASSED_ON]
    )


def rate_limits(head: ResponseHead) -> bytes:
    """What a refusal says of the limits behind it, as header lines; clients show it."""
    return b"".join(
        b"%b: %b\r\n" % (name, value)
        for name, value in head.headers.items()
        if name.startswith((b"x-ratelimit-", b"anthropic-ratelimit-"))
    )


def usage_in(head: ResponseHead) -> Usage | None:
    """The token counts that TGI puts in headers, for its answers without details; else None."""
    prompt, completion = (head.headers.get(name, b"") for name in _COUNTS)
    if not (prompt.isdigit() and completion.isdigit() and len(prompt + completion) < 19):
        return None
    return Usage(prompt=int(prompt), completion=int(completion))
