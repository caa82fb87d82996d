"""The files of captures: a ring that a slow disk cannot fill the memory with."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import gettempdir

import pytest
from msgspec.structs import replace

from proxy.capture.format import CLIENT, Event
from proxy.capture.recorder import Budget, Recording
from proxy.capture.store import Finished, Ring, Store, directory_of
from proxy.config.schema import Capture
from proxy.outcome import Account

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def finished(number: int, rules: Capture, *, reason: str = "debug") -> Finished:
    """A request that ended so many seconds after noon."""
    return Finished(
        reason=reason,
        ended=NOON + timedelta(seconds=number),
        fields={"request_id": f"r{number}"},
        events=[Event(0.0, CLIENT, "received", b"hello")],
        hidden=frozenset(),
        incomplete={},
        rules=rules,
        release=lambda: None,
    )


def test_a_disk_that_blocks_costs_captures_and_nobody_waits(tmp_path: Path) -> None:
    rules = Capture(directory=str(tmp_path))
    blocked, go_on = threading.Event(), threading.Event()
    released: list[int] = []

    def tell(**_: object) -> None:
        blocked.set()
        go_on.wait(20)

    store = Store(tell)
    store.put(finished(0, rules))
    assert blocked.wait(20)
    for number in range(1, 151):
        release = partial(released.append, number)
        store.put(replace(finished(number, rules), release=release))

    assert (store.dropped, released) == (50, list(range(101, 151)))
    go_on.set()
    store.close(20)
    assert (store.written, len(list(tmp_path.iterdir()))) == (101, 101)


def test_a_store_that_wrote_nothing_has_no_thread_to_wait_for() -> None:
    store = Store(lambda **_: None)

    store.close()

    assert (store.written, store.dropped, store.failed) == (0, 0, 0)


def test_a_ring_goes_on_where_an_earlier_one_ended(tmp_path: Path) -> None:
    rules = Capture(max_file_bytes=1024)
    for number in range(2):
        Ring(tmp_path, is_shared=False).add(f"2026{number}-debug-x.capture", b"x" * 400, rules)
    (tmp_path / "notes.txt").write_text("x" * 2000)

    Ring(tmp_path, is_shared=False).add("20262-debug-x.capture", b"x" * 400, rules)

    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == ["20261-debug-x.capture", "20262-debug-x.capture", "notes.txt"]


def test_only_what_nobody_asked_for_is_bounded_by_its_number(tmp_path: Path) -> None:
    ring = Ring(tmp_path, is_shared=False)
    for number in range(6):
        reason = "debug" if number % 2 else "failed"
        ring.add(f"{number}-{reason}-a-debug-b.capture", b"x", Capture(keep_last=1))

    names = sorted(each.name[:5] for each in tmp_path.iterdir())
    assert names == ["1-deb", "3-deb", "4-fai", "5-deb"]


def test_what_was_deleted_by_hand_is_no_trouble(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "a", is_shared=False)
    first = ring.add("1-debug-x.capture", b"x" * 600, Capture(max_file_bytes=1024))
    first.unlink()
    first.parent.rmdir()

    ring.add("2-debug-x.capture", b"x" * 600, Capture(max_file_bytes=1024))

    assert [each.name for each in (tmp_path / "a").iterdir()] == ["2-debug-x.capture"]


def test_a_directory_that_others_could_have_made_must_be_our_own(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "ours").symlink_to(tmp_path / "theirs")

    with pytest.raises(PermissionError):
        Ring(tmp_path / "ours", is_shared=True)
    Ring(tmp_path / "ours", is_shared=False)


def test_a_directory_of_our_own_is_closed_to_others(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir(mode=0o777)

    Ring(tmp_path / "ours", is_shared=True)

    assert (tmp_path / "ours").stat().st_mode & 0o777 == 0o700


def test_without_a_word_captures_go_below_the_directory_for_temporary_files() -> None:
    assert directory_of(Capture()).parent == Path(gettempdir())


def test_all_recordings_share_one_bound() -> None:
    budget = Budget(10_000)
    first, second = (Recording(Account("r", 0.0), budget, 6000) for _ in range(2))
    first.note(CLIENT, "received", b"x" * 5000)
    second.note(CLIENT, "received", b"x" * 5000)

    assert (len(first.events), len(second.events)) == (1, 0)
    assert second.incomplete == {"client received": 5000}

    first.release()
    third = Recording(Account("r", 0.0), budget, 6000)
    third.note(CLIENT, "received", b"x" * 5000)
    first.note(CLIENT, "received", b"late")
    assert (len(first.events), len(third.events)) == (0, 1)


def test_a_recording_has_no_gaps() -> None:
    recording = Recording(Account("r", 0.0), Budget(10_000), 10)
    for data in (b"12345", b"678901", b"2"):
        recording.note("upstream-1", "received", data)

    assert [each.data for each in recording.events] == [b"12345", b"67890"]
    assert recording.incomplete == {"upstream-1 received": 12}
