"""The files of secrets: read once for a configuration, and seen to change."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config.schema import EnvSecret, FileSecret, SecretUnavailable
from proxy.config.secrets import SecretReader, read_secret


def test_a_file_is_read_once_for_one_configuration(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("one")
    reader = SecretReader(read_secret)
    first = reader(FileSecret(str(file)))
    file.write_text("two")

    assert (first, reader(FileSecret(str(file)))) == ("one", "one")


def test_what_changed_is_seen_and_so_is_its_return(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("one")
    reader = SecretReader(read_secret)
    reader(FileSecret(str(file)))
    files = reader.files()

    assert files.now() == files.digest
    file.write_text("two")
    assert files.now() != files.digest
    file.unlink()
    assert files.now() != files.digest
    file.write_text("one\n")  # line breaks at the end are no part of it
    assert files.now() == files.digest


def test_two_secrets_that_change_places_are_a_change(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("one")
    b.write_text("two")
    reader = SecretReader(read_secret)
    for file in (b, a):
        reader(FileSecret(str(file)))
    files = reader.files()

    a.write_text("two")
    b.write_text("one")

    assert files.now() != files.digest


def test_the_digest_shows_nothing(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("hunter2")
    reader = SecretReader(read_secret)
    reader(FileSecret(str(file)))

    assert "hunter2" not in f"{reader.files()!r} {reader.files().digest} {reader!r}"


def test_the_environment_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_TEST_KEY", "hunter2")
    reader = SecretReader(read_secret)
    empty = reader.files().digest

    assert reader(EnvSecret("PENSTOCK_TEST_KEY")) == "hunter2"
    assert reader.files().digest == empty


def test_a_file_that_is_not_there_is_not_remembered(tmp_path: Path) -> None:
    file = tmp_path / "key"
    reader = SecretReader(read_secret)

    with pytest.raises(SecretUnavailable):
        reader(FileSecret(str(file)))
    file.write_text("one")

    assert reader(FileSecret(str(file))) == "one"
