"""One event stream in the framing of axum 0.7: `data: `, LF, comments while it is quiet."""

import asyncio

from aiohttp import web

KEEP_ALIVE = b":\n\n"
HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


class EventStream:
    """An open answer; writing raises `ConnectionError` once the reader has left."""

    def __init__(self, request: web.Request, response: web.StreamResponse, quiet: float) -> None:
        self.response = response
        self._request = request
        self._quiet_seconds = max(quiet, 0.01)  # a stream of comments is no rest

    async def send(self, payload: bytes) -> None:
        """Write one event."""
        await self.response.write(b"data: " + payload + b"\n\n")

    async def rest(self, seconds: float) -> None:
        """Wait, with a comment for every quiet while that passes."""
        while seconds > self._quiet_seconds:
            await asyncio.sleep(self._quiet_seconds)
            await self.response.write(KEEP_ALIVE)
            seconds -= self._quiet_seconds
        await asyncio.sleep(seconds)

    def cut(self) -> None:
        """Drop the connection as it is, without the end of the body."""
        cut(self._request)


async def open_stream(request: web.Request, headers: dict[str, str], quiet: float) -> EventStream:
    """Send the head of a stream and give the rest; `quiet` is in seconds."""
    response = web.StreamResponse(headers=HEADERS | headers)
    await response.prepare(request)
    return EventStream(request, response, quiet)


def cut(request: web.Request) -> None:
    """Drop the connection of `request`, if it is still there."""
    if request.transport is not None:
        request.transport.abort()
