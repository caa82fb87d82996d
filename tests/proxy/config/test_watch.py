"""Real files, real notifications: what counts as a change, and that none is missed."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.config.watch import LIMIT_BYTES, Content, Unreadable, digest_of, read, watch

# Far below the safety look of ten seconds: what arrives within it was notified or polled.
PATIENCE_SECONDS = 5.0

Change = Callable[[Path, bytes], None]


class Sightings:
    """What the file held each time `watch` said that it had changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: asyncio.Queue[bytes | str] = asyncio.Queue()

    async def changed(self) -> None:
        found = await asyncio.to_thread(read, self.path)
        self._found.put_nowait(found.data if isinstance(found, Content) else found.reason)

    async def next(self) -> bytes | str:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._found.get()

    async def until(self, expected: bytes | str) -> None:
        while await self.next() != expected:
            pass


@asynccontextmanager
async def watching(
    path: Path, *, since: bytes = b"", poll: bool = False, safety_seconds: float = 60
) -> AsyncIterator[Sightings]:
    sightings = Sightings(path)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(
            watch(
                path,
                sightings.changed,
                since=digest_of(since),
                poll=poll,
                safety_seconds=safety_seconds,
            )
        )
        yield sightings
        task.cancel()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    path = tmp_path / "etc" / "config.jsonc"
    path.write_bytes(b"first")
    return path


def write_in_place(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def rename_over(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".tmp")
    fresh.write_bytes(content)
    fresh.replace(path)


def touch(path: Path) -> None:
    path.touch()


def delete(path: Path) -> None:
    path.unlink()


def delete_and_create(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def rename_over_with_an_older_time(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".tmp")
    fresh.write_bytes(content)
    os.utime(fresh, (path.stat().st_mtime - 3600,) * 2)
    fresh.replace(path)


def write_in_place_and_restore_the_time(path: Path, content: bytes) -> None:
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_the_directory(path: Path, content: bytes) -> None:
    fresh = path.parent.with_name("fresh")
    fresh.mkdir()
    (fresh / path.name).write_bytes(content)
    path.parent.rename(path.parent.with_name(f"old-{content.decode()}"))
    fresh.rename(path.parent)


def write_in_two_halves(path: Path, content: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        file.write(content[:2])
        file.write(content[2:])


@pytest.mark.parametrize("poll", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        write_in_place,
        rename_over,
        delete_and_create,
        rename_over_with_an_older_time,
        write_in_place_and_restore_the_time,
        replace_the_directory,
        write_in_two_halves,
    ],
)
async def test_every_kind_of_change_is_seen_again_and_again(
    path: Path, change: Change, poll: bool
) -> None:
    async with watching(path, since=b"first", poll=poll) as sightings:
        for content in (b"second", b"third!", b"fourth"):
            change(path, content)

            await sightings.until(content)


@pytest.mark.parametrize("poll", [False, True])
async def test_every_swap_of_a_configmap_is_seen(tmp_path: Path, poll: bool) -> None:
    path = mount_configmap(tmp_path, b"first")

    async with watching(path, since=b"first", poll=poll) as sightings:
        for number, content in enumerate((b"second", b"third", b"second"), start=2):
            swap_configmap(tmp_path, number, content)

            await sightings.until(content)


def mount_configmap(mount: Path, content: bytes) -> Path:
    """A ConfigMap volume as the kubelet lays it out."""
    (mount / "..2026_1").mkdir()
    (mount / "..2026_1" / "config.jsonc").write_bytes(content)
    (mount / "..data").symlink_to("..2026_1")
    (mount / "config.jsonc").symlink_to("..data/config.jsonc")
    return mount / "config.jsonc"


def swap_configmap(mount: Path, number: int, content: bytes) -> None:
    """Publish a version as the kubelet does: new directory, new link over the old, old away."""
    old = (mount / "..data").resolve()
    fresh = mount / f"..2026_{number}"
    fresh.mkdir()
    (fresh / "config.jsonc").write_bytes(content)
    (mount / "..data_tmp").symlink_to(fresh.name)
    (mount / "..data_tmp").replace(mount / "..data")
    shutil.rmtree(old)


async def test_a_change_before_the_watch_begins_is_seen(path: Path) -> None:
    async with watching(path, since=b"older") as sightings:
        assert await sightings.next() == b"first"


async def test_touching_the_file_or_its_neighbours_is_no_change(path: Path) -> None:
    other = path.with_name("other")

    async with watching(path, since=b"first") as sightings, watching(other) as witness:
        for noise in (b"one", b"two"):
            touch(path)
            rename_over(path, b"first")
            write_in_place(other, noise)
            await witness.until(noise)
        write_in_place(path, b"second")

        assert await sightings.next() == b"second"


async def test_a_deleted_file_is_told_once_and_its_return_too(path: Path) -> None:
    other = path.with_name("other")

    async with watching(path, since=b"first") as sightings, watching(other) as witness:
        delete(path)
        told = await sightings.next()
        for noise in (b"one", b"two"):
            write_in_place(other, noise)
            await witness.until(noise)
        write_in_place(path, b"first")
        returned = await sightings.next()

    assert told == f"{path}: no such file or directory"
    assert returned == b"first"


async def test_a_directory_that_is_gone_with_its_parent_is_awaited(tmp_path: Path) -> None:
    path = tmp_path / "mount" / "etc" / "config.jsonc"

    async with watching(path) as sightings:
        assert await sightings.next() == f"{path}: no such file or directory"
        for content in (b"first", b"second"):
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
            await sightings.until(content)
            shutil.rmtree(tmp_path / "mount")
            await sightings.until(f"{path}: no such file or directory")


async def test_a_write_to_the_end_of_a_chain_of_links_is_seen(tmp_path: Path, path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    (tmp_path / "two" / "link").symlink_to("../etc/config.jsonc")
    (tmp_path / "one" / "link").symlink_to("../two/link")

    async with watching(tmp_path / "one" / "link", since=b"first") as sightings:
        for content in (b"second", b"third"):
            rename_over(path, content)
            await sightings.until(content)


async def test_a_link_in_the_middle_of_a_chain_that_turns_elsewhere_is_seen(
    tmp_path: Path, path: Path
) -> None:
    for folder in ("one", "two", "three"):
        (tmp_path / folder).mkdir()
    middle = tmp_path / "two" / "link"
    middle.symlink_to(path)
    (tmp_path / "one" / "link").symlink_to(middle)
    elsewhere = tmp_path / "three" / "config.jsonc"
    elsewhere.write_bytes(b"second")

    async with watching(tmp_path / "one" / "link", since=b"first") as sightings:
        middle.unlink()
        middle.symlink_to(elsewhere)
        await sightings.until(b"second")
        elsewhere.write_bytes(b"third")
        await sightings.until(b"third")


async def test_a_link_to_the_directory_that_turns_elsewhere_is_seen(
    tmp_path: Path, path: Path
) -> None:
    (tmp_path / "release-2").mkdir()
    (tmp_path / "release-2" / "config.jsonc").write_bytes(b"second")
    current = tmp_path / "current"
    current.symlink_to("etc")

    async with watching(current / "config.jsonc", since=b"first") as sightings:
        (tmp_path / "fresh").symlink_to("release-2")
        (tmp_path / "fresh").replace(current)
        await sightings.until(b"second")
        rename_over(tmp_path / "release-2" / "config.jsonc", b"third")
        await sightings.until(b"third")


async def test_what_no_notification_tells_is_found_by_the_safety_look(tmp_path: Path) -> None:
    far = tmp_path / "far"
    path = far / "a" / "b" / "config.jsonc"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"first")
    other = tmp_path / "other" / "a" / "b"
    other.mkdir(parents=True)
    (other / "config.jsonc").write_bytes(b"second")

    async with watching(path, since=b"first", safety_seconds=0.2) as sightings:
        write_in_place(path, b"heard")
        await sightings.until(b"heard")
        far.rename(tmp_path / "old")
        (tmp_path / "other").rename(far)

        await sightings.until(b"second")


async def test_of_a_storm_of_writes_the_last_is_seen(path: Path) -> None:
    async with watching(path, since=b"first") as sightings:
        for number in range(200):
            (write_in_place, rename_over)[number % 2](path, b"number %d" % number)
            await asyncio.sleep(0)

        await sightings.until(b"number 199")


async def test_cancelling_leaves_no_descriptor_and_no_task_behind(tmp_path: Path) -> None:
    path = mount_configmap(tmp_path, b"first")
    before = open_descriptors()

    async with watching(path, since=b"first") as sightings:
        for number in range(2, 12):
            swap_configmap(tmp_path, number, b"%d" % number)
            await sightings.until(b"%d" % number)

    assert len(asyncio.all_tasks()) == 1
    async with asyncio.timeout(PATIENCE_SECONDS):
        # watchfiles closes its own in a thread of its own, and tells nobody.
        while open_descriptors() > before:  # noqa: ASYNC110
            await asyncio.sleep(0)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_an_error_of_the_one_who_is_told_ends_the_watch(path: Path) -> None:
    async def changed() -> None:
        raise LookupError

    with pytest.raises(ExceptionGroup) as failure:
        await watch(path, changed, since="")

    assert failure.group_contains(LookupError)


def test_reading_gives_the_content_and_its_digest(path: Path) -> None:
    assert read(path) == Content(
        b"first", "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e"
    )


def test_an_empty_file_is_content(path: Path) -> None:
    path.write_bytes(b"")

    assert read(path) == Content(b"", digest_of(b""))


def make_directory(path: Path) -> None:
    path.mkdir()


def make_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def make_loop_of_links(path: Path) -> None:
    path.symlink_to("again")
    (path.parent / "again").symlink_to(path)


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_too_large(path: Path) -> None:
    path.touch()
    os.truncate(path, LIMIT_BYTES + 1)


def make_restless(path: Path) -> None:
    path.symlink_to("/proc/uptime")  # another content every hundredth of a second


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (make_directory, "is a directory"),
        (make_dangling_link, "no such file or directory"),
        (make_loop_of_links, "too many levels of symbolic links"),
        (make_fifo, "not a regular file"),
        (make_too_large, "larger than 67108864 bytes"),
        (make_restless, "changes faster than it can be read"),
    ],
)
async def test_what_cannot_be_read_is_told_with_its_reason_and_then_its_return(
    tmp_path: Path, make: Callable[[Path], None], why: str
) -> None:
    path = tmp_path / "config.jsonc"
    make(path)

    async with watching(path) as sightings:
        told = await sightings.next()
        if path.is_dir():
            path.rmdir()
        rename_over(path, b"content")
        await sightings.until(b"content")

    assert told == f"{path}: {why}"
    assert read(tmp_path / "none") == Unreadable(f"{tmp_path / 'none'}: no such file or directory")


def test_a_file_at_the_limit_is_read(path: Path) -> None:
    os.truncate(path, LIMIT_BYTES)

    found = read(path)

    assert isinstance(found, Content)
    assert len(found.data) == LIMIT_BYTES
