"""Where secrets stand: read from the environment and from files, and seen to change."""

from __future__ import annotations

import errno
import os
import pathlib
import re
from collections.abc import Mapping
from hashlib import sha256
from types import MappingProxyType

from proxy.config.schema import EnvSecret, FileSecret, ReadSecret, SecretUnavailable
from proxy.config.wording import quoted

MAX_SECRET_BYTES = 64 * 1024

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_secret(ref: EnvSecret | FileSecret) -> str:
    """The secret in an environment variable or a file. Raises SecretUnavailable.

    A relative path is one from the working directory. Line breaks at a file's end are dropped.
    """
    return _from_environment(ref.env) if isinstance(ref, EnvSecret) else _from_file(ref.file)


class SecretFiles:
    """The files that a configuration took secrets from, and what they held."""

    def __init__(self, texts: Mapping[str, str], read: ReadSecret = read_secret) -> None:
        self._names = tuple(sorted(texts))
        self._read = read
        self.digest = _digest([texts[name] for name in self._names])

    def now(self) -> str:
        """The digest of what they hold at this moment; equal to `digest` if nothing changed."""
        return _digest([self._text(name) for name in self._names])

    def _text(self, name: str) -> str | None:
        try:
            return self._read(FileSecret(name))
        except SecretUnavailable:
            return None


class SecretReader:
    """Reads secrets for one configuration, and remembers the files."""

    def __init__(self, read: ReadSecret) -> None:
        self._read = read
        self._texts: dict[str, str] = {}

    def __call__(self, ref: EnvSecret | FileSecret) -> str:
        """The secret that is meant. Raises SecretUnavailable.

        A file is read once, so that one configuration cannot hold two states of it.
        """
        if isinstance(ref, EnvSecret):
            return self._read(ref)
        if ref.file not in self._texts:
            self._texts[ref.file] = self._read(ref)
        return self._texts[ref.file]

    def files(self) -> SecretFiles:
        """The files read so far."""
        return SecretFiles(MappingProxyType(dict(self._texts)), self._read)


def _digest(texts: list[str | None]) -> str:
    whole = sha256()
    for text in texts:
        # Of each its own digest, so that nothing can move from one to the next.
        whole.update(b"-" if text is None else sha256(text.encode()).digest())
    return whole.hexdigest()


def _from_environment(name: str) -> str:
    # A key that was written here by mistake must not be shown.
    if _ENV_NAME.fullmatch(name) is None:
        raise SecretUnavailable("this is not the name of an environment variable")
    text = os.environ.get(name)  # noqa: TID251 - the one place that reads it
    if not text:
        state = "is not set" if text is None else "is empty"
        raise SecretUnavailable(f"environment variable {quoted(name)} {state}")
    return text


def _from_file(name: str) -> str:
    try:
        text = _content(pathlib.Path(name)).decode().rstrip("\r\n")
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
    except UnicodeDecodeError:
        reason = "not UTF-8"
    else:
        if text:
            return text
        reason = "empty"
    # Not raised from a decoding error, which holds the content.
    raise SecretUnavailable(f"file {quoted(name)}: {reason}")


def _content(path: pathlib.Path) -> bytes:
    if not path.is_file():  # a pipe could keep us waiting for ever
        raise FileNotFoundError(errno.ENOENT, "there is no such file")
    with path.open("rb") as file:
        content = file.read(MAX_SECRET_BYTES + 1)
    if len(content) > MAX_SECRET_BYTES:
        raise OSError(errno.EFBIG, f"larger than {MAX_SECRET_BYTES} bytes")
    return content
