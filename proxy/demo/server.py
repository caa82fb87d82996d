"""The demo server as a process: one listener, one line, and a clean end."""

import asyncio
import signal
import sys

from aiohttp import web

from proxy.demo.app import Settings, build_app
from proxy.demo.script import MAX_PACE_SECONDS

SHUTDOWN_SECONDS = 1.0  # TGI would let streams run on for ever; who stops a demo does not wait
BACKLOG = 1024  # the default of 128 makes a load test wait for SYN retries


async def run_demo(host: str, port: int, pace: float, api_key: str | None) -> None:
    """Serve until SIGINT or SIGTERM; `pace` is in seconds per token, port 0 is any free one.

    Prints one line with the address. Raises `OSError` when the address cannot be had.
    """
    settings = Settings(pace_seconds=min(max(pace, 0.0), MAX_PACE_SECONDS), api_key=api_key)
    runner = web.AppRunner(
        build_app(settings),
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=SHUTDOWN_SECONDS,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=BACKLOG)
        await site.start()
        sys.stdout.write(f"penstock demo: a stand-in for TGI, no real model, on {_url(runner)}\n")
        sys.stdout.flush()
        await _told_to_stop()
    finally:
        await runner.cleanup()


def _url(runner: web.AppRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _told_to_stop() -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        await stop.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
