"""A configuration goes live whole or not at all; real files, real notifications."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from weakref import ref

import msgspec
import pytest

from proxy.config.problems import ConfigError, Problem
from proxy.config.schema import FileSecret, SecretUnavailable
from proxy.config.secrets import SecretFiles, SecretReader, read_secret
from proxy.config.watch import digest_of
from proxy.reload import Reloader, ReloadStatus

PATIENCE_SECONDS = 5.0


NO_SECRETS = SecretFiles({})


class Registry(msgspec.Struct, frozen=True, weakref=True):
    """Stands for the real one: what it was built from, and its number."""

    content: bytes
    generation: int
    secrets: SecretFiles = NO_SECRETS


class Builder:
    """Builds a `Registry`; refuses a content that begins with `bad`, and counts.

    Where it has the path of a `secret` it reads that too.
    """

    def __init__(self, secret: Path | None = None) -> None:
        self.secret = secret
        self.contents: list[bytes] = []

    def __call__(self, content: bytes, generation: int) -> Registry:
        self.contents.append(content)
        if content.startswith(b"bug"):
            raise ZeroDivisionError(content)
        if not content.strip() or content.startswith(b"bad"):
            raise ConfigError(
                (
                    Problem("models[0].id", 3, 7, "expected a string"),
                    Problem("models[1].name", 4, 9, "unknown key"),
                )
            )
        return Registry(content, generation, self._secrets())

    def _secrets(self) -> SecretFiles:
        if self.secret is None:
            return NO_SECRETS
        reader = SecretReader(read_secret)
        try:
            reader(FileSecret(str(self.secret)))
        except SecretUnavailable as error:
            raise ConfigError((Problem("key", 1, 1, str(error)),)) from None
        return reader.files()


class Scene:
    """A file, what builds from it, the reloader, and all it told."""

    def __init__(self, path: Path, secret: Path | None = None) -> None:
        self.path = path
        self.build = Builder(secret)
        self.told: list[ReloadStatus] = []
        self.first = self.build(b"first", 1)
        self.build.contents.clear()
        self.reloader = Reloader(
            path, self.build, self.first, b"first", self.told.append, secrets_seconds=0.01
        )

    async def until(self, holds: Callable[[ReloadStatus], bool]) -> ReloadStatus:
        status = self.reloader.status
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds(status):
                status = await self.reloader.changed(status)
        return status

    @asynccontextmanager
    async def running(self, *, poll: bool = False) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.reloader.run(poll=poll))
            yield
            task.cancel()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config.jsonc"
    path.write_bytes(b"first")
    return path


@pytest.fixture
def scene(path: Path) -> Scene:
    return Scene(path)


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def rename_over(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".tmp")
    fresh.write_bytes(content)
    fresh.replace(path)


async def test_the_registry_it_began_with_is_generation_one(scene: Scene) -> None:
    status = scene.reloader.status

    assert scene.reloader.current is scene.first
    assert (status.generation, status.digest) == (1, digest_of(b"first"))
    assert (status.ok, status.problems, status.reason) == (True, (), "start")
    assert status.loaded_at == status.last_attempt_at > 1.7e9


async def test_new_content_is_the_next_generation(scene: Scene) -> None:
    before = scene.reloader.status
    write(scene.path, b"second")

    status = await scene.reloader.reload("SIGHUP")

    assert scene.reloader.current == Registry(b"second", 2)
    assert (status.generation, status.digest) == (2, digest_of(b"second"))
    assert (status.ok, status.problems, status.reason) == (True, (), "SIGHUP")
    assert status.loaded_at == status.last_attempt_at > before.loaded_at
    assert scene.told == [status]
    assert scene.reloader.status is status


async def test_unchanged_content_makes_no_generation(scene: Scene) -> None:
    before = scene.reloader.status

    status = await scene.reloader.reload("POST /reload")

    assert scene.reloader.current is scene.first
    assert scene.build.contents == []
    assert (status.generation, status.ok, status.reason) == (1, True, "POST /reload")
    assert status.loaded_at == before.loaded_at
    assert status.last_attempt_at > before.last_attempt_at


async def test_bad_content_changes_nothing_and_every_problem_is_told(scene: Scene) -> None:
    before = scene.reloader.status
    write(scene.path, b"bad")

    status = await scene.reloader.reload("SIGHUP")

    assert scene.reloader.current is scene.first
    assert not status.ok
    assert status.problems == (
        "line 3, column 7: models[0].id: expected a string",
        "line 4, column 9: models[1].name: unknown key",
    )
    assert (status.generation, status.digest) == (1, digest_of(b"first"))
    assert status.loaded_at == before.loaded_at
    assert status.last_attempt_at > before.last_attempt_at


async def test_a_bug_in_build_changes_nothing_and_is_logged_not_shown(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    write(scene.path, b"bug: sk-secret")

    status = await scene.reloader.reload("SIGHUP")

    assert scene.reloader.current is scene.first
    assert status.problems == ("internal error: ZeroDivisionError, see the log",)
    assert [record.message for record in caplog.records] == ["generation 2 could not be built"]


async def test_the_generation_after_a_refusal_is_the_next_in_line(scene: Scene) -> None:
    for content in (b"bad", b"bug", b"second"):
        write(scene.path, content)
        await scene.reloader.reload("SIGHUP")

    assert scene.reloader.current == Registry(b"second", 2)
    assert [status.ok for status in scene.told] == [False, False, True]


async def test_going_back_to_what_serves_ends_a_failure_without_a_generation(scene: Scene) -> None:
    write(scene.path, b"bad")
    await scene.reloader.reload("SIGHUP")
    write(scene.path, b"first")

    status = await scene.reloader.reload("SIGHUP")

    assert scene.reloader.current is scene.first
    assert (status.generation, status.ok, status.problems) == (1, True, ())


async def test_refused_content_is_tried_again_when_asked(scene: Scene) -> None:
    write(scene.path, b"bad")

    await scene.reloader.reload("SIGHUP")
    await scene.reloader.reload("SIGHUP")

    assert scene.build.contents == [b"bad", b"bad"]


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def put_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def put_a_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def put_a_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def put_50_megabytes(path: Path) -> None:
    path.write_bytes(b" ")
    os.truncate(path, 50_000_000)


def put_70_megabytes(path: Path) -> None:
    os.truncate(path, 70_000_000)


def put_half_a_file(path: Path) -> None:
    path.write_bytes(b"bad")


SPOILS = [
    remove,
    empty,
    put_a_directory,
    put_a_loop,
    put_a_dangling_link,
    put_70_megabytes,
    put_half_a_file,
]


@pytest.mark.parametrize("poll", [False, True])
@pytest.mark.parametrize("spoil", SPOILS)
async def test_a_spoiled_file_leaves_the_old_registry_and_its_repair_goes_live(
    scene: Scene, spoil: Callable[[Path], None], poll: bool
) -> None:
    async with scene.running(poll=poll):
        spoil(scene.path)
        spoiled = await scene.until(lambda status: not status.ok)
        assert scene.reloader.current is scene.first
        repair(scene.path, b"second")
        await scene.until(lambda status: status.generation == 2)

    assert spoiled.problems
    assert scene.reloader.current == Registry(b"second", 2)
    assert [status.generation for status in scene.told if status.ok] == [2]


def repair(path: Path, content: bytes) -> None:
    if path.is_dir():
        path.rmdir()
    rename_over(path, content)


async def test_50_megabytes_are_read_and_left_to_build_to_judge(scene: Scene) -> None:
    put_50_megabytes(scene.path)

    status = await scene.reloader.reload("SIGHUP")

    assert [len(content) for content in scene.build.contents] == [50_000_000]
    assert status.generation == 2


@pytest.mark.parametrize("poll", [False, True])
async def test_a_swapped_configmap_goes_live_and_so_does_its_rollback(
    tmp_path: Path, poll: bool
) -> None:
    (tmp_path / "..1").mkdir()
    write(tmp_path / "..1" / "config.jsonc", b"first")
    point_data_at(tmp_path, "..1")
    (tmp_path / "config.jsonc").symlink_to("..data/config.jsonc")
    (tmp_path / "..2").mkdir()
    write(tmp_path / "..2" / "config.jsonc", b"second")
    scene = Scene(tmp_path / "config.jsonc")

    async with scene.running(poll=poll):
        point_data_at(tmp_path, "..2")
        await scene.until(lambda status: status.generation == 2)
        point_data_at(tmp_path, "..1")  # the same directory: its times are the oldest of all
        await scene.until(lambda status: status.generation == 3)

    assert scene.build.contents == [b"second", b"first"]
    assert scene.reloader.current == Registry(b"first", 3)


def point_data_at(mount: Path, version: str) -> None:
    (mount / "..data_tmp").symlink_to(version)
    (mount / "..data_tmp").replace(mount / "..data")


async def test_a_storm_of_writes_ends_with_the_last_and_never_counts_back(scene: Scene) -> None:
    async with scene.running():
        for number in range(200):
            (write, rename_over)[number % 2](scene.path, b"number %d" % number)
            await asyncio.sleep(0)
        await scene.until(lambda status: status.digest == digest_of(b"number 199"))

    generations = [status.generation for status in scene.told]
    assert scene.reloader.current == Registry(b"number 199", generations[-1])
    assert generations == sorted(generations)
    assert len(scene.build.contents) < 200


async def test_what_changed_before_the_run_goes_live(scene: Scene) -> None:
    write(scene.path, b"second")

    async with scene.running():
        status = await scene.until(lambda status: status.generation == 2)

    assert status.reason == "file changed"


async def test_calls_that_come_together_share_one_attempt_more(scene: Scene) -> None:
    write(scene.path, b"second")

    statuses = await asyncio.gather(*(scene.reloader.reload(f"call {n}") for n in range(20)))

    # The first began at once; the others came while it ran and may know of a later change.
    assert [status.reason for status in scene.told] == ["call 0", "call 1"]
    assert statuses == [scene.told[0]] + [scene.told[1]] * 19
    assert scene.build.contents == [b"second"]


async def test_a_call_during_an_attempt_sees_what_was_written_before_it(scene: Scene) -> None:
    write(scene.path, b"second")

    async with asyncio.TaskGroup() as group:
        group.create_task(scene.reloader.reload("early"))
        await asyncio.sleep(0)
        rename_over(scene.path, b"third")
        late = await scene.reloader.reload("late")

    assert late.digest == digest_of(b"third")
    assert scene.reloader.current.content == b"third"


async def test_a_cancelled_call_leaves_its_attempt_to_those_who_wait(scene: Scene) -> None:
    write(scene.path, b"second")

    async with asyncio.TaskGroup() as group:
        impatient = group.create_task(scene.reloader.reload("impatient"))
        patient = group.create_task(scene.reloader.reload("patient"))
        await asyncio.sleep(0)
        impatient.cancel()

    assert patient.result().generation == 2
    assert [status.reason for status in scene.told] == ["patient"]


async def test_changed_returns_at_once_for_an_older_status(scene: Scene) -> None:
    old = scene.reloader.status
    for content in (b"second", b"third"):
        write(scene.path, content)
        await scene.reloader.reload("SIGHUP")

    status = await scene.reloader.changed(old)

    assert status.generation == 3


async def test_every_listener_hears_of_a_change(scene: Scene) -> None:
    async def listen() -> ReloadStatus:
        return await scene.reloader.changed(scene.reloader.status)

    async with asyncio.TaskGroup() as group:
        listeners = [group.create_task(listen()) for _ in range(3)]
        await asyncio.sleep(0)
        status = await scene.reloader.reload("SIGHUP")

    assert [listener.result() for listener in listeners] == [status] * 3


async def test_a_request_keeps_the_registry_it_took(scene: Scene) -> None:
    taken = scene.reloader.current
    write(scene.path, b"second")

    await scene.reloader.reload("SIGHUP")

    assert taken == Registry(b"first", 1)
    assert scene.reloader.current == Registry(b"second", 2)


async def test_a_registry_that_no_request_holds_is_forgotten_at_the_swap(scene: Scene) -> None:
    write(scene.path, b"second")
    await scene.reloader.reload("SIGHUP")
    second = ref(scene.reloader.current)
    write(scene.path, b"third")

    await scene.reloader.reload("SIGHUP")

    assert second() is None


# Secrets in files of their own


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    secret = tmp_path / "secrets" / "key"
    secret.parent.mkdir()
    secret.write_text("one")
    return secret


@pytest.fixture
def guarded(path: Path, secret: Path) -> Scene:
    return Scene(path, secret)


async def test_a_reload_reads_a_changed_secret_though_the_file_is_the_same(
    guarded: Scene, secret: Path
) -> None:
    secret.write_text("two")

    status = await guarded.reloader.reload("SIGHUP")

    assert (status.generation, status.ok) == (2, True)
    assert guarded.build.contents == [b"first"]
    assert guarded.reloader.current.secrets.digest != guarded.first.secrets.digest


async def test_a_reload_with_the_same_secret_makes_no_generation(
    guarded: Scene, secret: Path
) -> None:
    secret.write_text("one\n")

    status = await guarded.reloader.reload("SIGHUP")

    assert (status.generation, status.ok) == (1, True)
    assert guarded.build.contents == []


async def test_a_secret_that_is_gone_leaves_what_serves(guarded: Scene, secret: Path) -> None:
    secret.unlink()

    status = await guarded.reloader.reload("SIGHUP")

    assert (status.generation, status.ok) == (1, False)
    assert guarded.reloader.current is guarded.first

    secret.write_text("one")

    assert (await guarded.reloader.reload("SIGHUP")).ok
    assert guarded.reloader.current is guarded.first


async def test_a_changed_secret_goes_live_by_itself(guarded: Scene, secret: Path) -> None:
    async with guarded.running():
        secret.write_text("two")
        status = await guarded.until(lambda status: status.generation == 2)

    assert status.reason == "secret changed"


async def test_a_bad_secret_is_tried_once_and_its_repair_goes_live(
    guarded: Scene, secret: Path
) -> None:
    async with guarded.running():
        secret.write_text("")
        await guarded.until(lambda status: not status.ok)
        secret.write_text("two")
        await guarded.until(lambda status: status.generation == 2)

    assert [status.ok for status in guarded.told] == [False, True]


async def test_a_secret_put_back_ends_the_failure_without_a_generation(
    guarded: Scene, secret: Path
) -> None:
    async with guarded.running():
        secret.write_text("")
        await guarded.until(lambda status: not status.ok)
        secret.write_text("one")
        status = await guarded.until(lambda status: status.ok)

    assert status.generation == 1
    assert guarded.reloader.current is guarded.first
