"""The composition root: loads the configuration, puts everything together, runs it, drains it."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from time import monotonic

import msgspec
import uvloop
from aiohttp import web
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

from proxy.api.listeners import address_of, admin_runner, client_runner, has_unsent, listening
from proxy.config.problems import ConfigError
from proxy.config.schema import Listen
from proxy.config.watch import Content, read
from proxy.endpoints import LiveState
from proxy.engines import Engines
from proxy.log import Log, LogHandler, standard_output
from proxy.metrics import Metrics
from proxy.prober import Prober
from proxy.registry import Registry, build
from proxy.reload import Reloader, ReloadStatus
from proxy.resolver import Resolver
from proxy.service import Service

EX_UNAVAILABLE = 69  # sysexits.h: an address that cannot be had
EX_CONFIG = 78  # a bad configuration

_LAST_WORD_SECONDS = 0.5  # for what was written at the deadline to reach those who read it
_LOOK_SECONDS = 0.01


class Options(msgspec.Struct, frozen=True):
    """What the command line says; None leaves it to the configuration's `listen`."""

    config: Path
    host: str | None = None
    port: int | None = None
    admin_host: str | None = None
    admin_port: int | None = None
    allow_anonymous: bool = False
    drain_seconds: float | None = None
    poll: bool = False


class CannotStart(Exception):
    """The proxy cannot start; the text says why."""


def serve(options: Options) -> int:
    """Serve until SIGTERM or SIGINT; the exit status."""
    _raise_file_limit()
    _spare_the_collector()
    log = Log(standard_output())
    log.start()
    logging.basicConfig(level=logging.WARNING, handlers=[LogHandler(log)], force=True)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(options, log))
    except (ConfigError, CannotStart) as error:
        print(f"penstock: {options.config}:\n{error}", file=sys.stderr)  # noqa: T201 - for a person
        return EX_CONFIG
    except OSError as error:
        print(f"penstock: {error.strerror}", file=sys.stderr)  # noqa: T201 - for a person
        return EX_UNAVAILABLE
    finally:
        log.close()
    return 0


def _raise_file_limit() -> None:
    """Take as many open files as the system lets us: each stream needs two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _spare_the_collector() -> None:
    """Let garbage collection look at young objects less often, and at our modules never.

    Nearly everything that a request makes is freed by its reference counts; looking for cycles
    every 700 objects costs 8 % of a request.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


class Penstock(msgspec.Struct):
    """A running penstock, and where it is reached."""

    service: Service
    clients: web.BaseRunner
    admin: web.BaseRunner

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return address_of(self.clients)

    @property
    def admin_url(self) -> str:
        """Where operators reach it."""
        return address_of(self.admin)

    async def drain(self, seconds: float | None = None) -> None:
        """Stop accepting, after the grace of a drain that had begun; wait until all have ended.

        `seconds` is for a drain that begins here: what runs longer is ended.
        """
        if self.service.leaving is not None:
            await asyncio.sleep(self.service.leaving.grace_left(monotonic()))
        for site in tuple(self.clients.sites):
            await site.stop()
        await self.service.drain(seconds)
        await self._said_all()

    async def _said_all(self) -> None:
        """Until clients have taken what was written for them; not much longer than the deadline."""
        drain = self.service.begin_drain("stop")
        with suppress(TimeoutError):
            async with asyncio.timeout(drain.seconds_left(monotonic()) + _LAST_WORD_SECONDS):
                while has_unsent(self.clients):  # noqa: ASYNC110 - no one event tells of all
                    await asyncio.sleep(_LOOK_SECONDS)


@asynccontextmanager
async def running(options: Options, log: Log) -> AsyncIterator[Penstock]:
    """A penstock that serves until the block ends. Raises ConfigError, CannotStart."""
    live = LiveState()
    content = _content(options.config)
    registry = build(content.data, 1, live)
    listen = _listen(options, registry)
    metrics = Metrics()
    reloader = Reloader(
        options.config,
        lambda data, generation: build(data, generation, live),
        registry,
        content.data,
        lambda status: _reloaded(status, reloader.current, metrics, log),
    )
    del registry  # from here on the reloader holds it, and lets go of it
    _reloaded(reloader.status, reloader.current, metrics, log)
    service = Service(reloader, live, metrics, log, options.drain_seconds)
    engines = Engines(lambda: reloader.current, service.upstream)
    metrics.watch_engines(lambda: engines.readings)
    async with (
        listening(admin_runner(service), listen.admin_host, listen.admin_port) as admin,
        listening(client_runner(service), listen.host, listen.port) as clients,
        asyncio.TaskGroup() as group,
    ):
        background = [
            group.create_task(service.sweep.run()),
            group.create_task(service.run_drain()),
            group.create_task(service.run_books()),
            group.create_task(service.upstream.run()),
            group.create_task(Resolver(lambda: reloader.current).run()),
            group.create_task(Prober(lambda: reloader.current, service.upstream).run()),
            group.create_task(engines.run()),
            group.create_task(reloader.run(poll=options.poll)),
            group.create_task(service.captures.run()),
        ]
        yield Penstock(service, clients, admin)
        for task in background:
            task.cancel()
    service.upstream.close()
    await asyncio.to_thread(service.captures.close)


def _content(path: Path) -> Content:
    found = read(path)
    if not isinstance(found, Content):
        raise CannotStart(found.reason)
    return found


def _listen(options: Options, registry: Registry) -> Listen:
    """Where to listen: the command line's word, else the file's. Raises CannotStart."""
    given = registry.listen
    listen = Listen(
        host=given.host if options.host is None else options.host,
        port=given.port if options.port is None else options.port,
        admin_host=given.admin_host if options.admin_host is None else options.admin_host,
        admin_port=given.admin_port if options.admin_port is None else options.admin_port,
    )
    if not registry.clients and not options.allow_anonymous and not _is_loopback(listen.host):
        raise CannotStart(
            f"{listen.host} lets everybody in and no client has a key: name clients in"
            ' "penstock", or start with --allow-anonymous'
        )
    return listen


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _reloaded(status: ReloadStatus, serving: Registry, metrics: Metrics, log: Log) -> None:
    metrics.reloaded(status, serving)
    log.write(
        "config",
        ok=status.ok,
        reason=status.reason,
        generation=status.generation,
        digest=status.digest,
        problems=status.problems or None,
    )


async def _serve(options: Options, log: Log) -> None:
    if HttpRequestParser is HttpRequestParserPy:
        log.write("warning", message="aiohttp's C parser is missing; its Python one is laxer")
    stop, hangup = _handled_signals(log)
    async with running(options, log) as penstock, asyncio.TaskGroup() as group:
        log.write("listening", clients=penstock.url, admin=penstock.admin_url)
        reloads = group.create_task(_reload_on(hangup, penstock.service.reloader))
        await stop.wait()
        await penstock.drain()
        reloads.cancel()


def _handled_signals(log: Log) -> tuple[asyncio.Event, asyncio.Event]:
    """Set by SIGTERM or SIGINT, and by SIGHUP. The second SIGTERM or SIGINT leaves at once."""
    stop, hangup = asyncio.Event(), asyncio.Event()

    def told_to_stop() -> None:
        if stop.is_set():
            log.write("leaving at once")
            log.close()
            os._exit(1)
        stop.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, told_to_stop)
    loop.add_signal_handler(signal.SIGINT, told_to_stop)
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    return stop, hangup


async def _reload_on(hangup: asyncio.Event, reloader: Reloader[Registry]) -> None:
    while True:
        await hangup.wait()
        hangup.clear()
        await reloader.reload("SIGHUP")
