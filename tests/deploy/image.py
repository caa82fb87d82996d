"""The container image, built without an engine and without a registry, and run from its files.

The base is what mmdebstrap makes of the distribution that the tests run on: a Python with venv, a
shell and ldd. The wheels are downloaded by the pip of the tests: the build itself needs no network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from tests.deploy.manifests import DEPLOY

PROGRAMS = ("mmdebstrap", "buildah", "unshare", "setpriv")
PACKAGES = "python3,python3-venv,ca-certificates,dash,coreutils,libc-bin,bash,libstdc++6"
# Packages are only unpacked, since their scripts take half a minute; this alone is missed.
CERTIFICATES = (
    'cat "$1"/usr/share/ca-certificates/mozilla/*.crt >"$1/etc/ssl/certs/ca-certificates.crt"'
)
BASE, NAME = "localhost/base", "localhost/penstock"


class Config(msgspec.Struct, frozen=True, rename="pascal"):
    """What the image tells who runs it."""

    user: str
    env: list[str]
    entrypoint: list[str]
    cmd: list[str]
    labels: dict[str, str]
    exposed_ports: dict[str, object]


class Inspected(msgspec.Struct, frozen=True):
    """The part of an image's description that is of the OCI."""

    config: Config


class Description(msgspec.Struct, frozen=True, rename={"oci": "OCIv1"}):
    """What buildah says of an image."""

    oci: Inspected


class Image(msgspec.Struct, frozen=True):
    """A built image, unpacked."""

    config: Config
    root: Path

    def command(self, config: Path, arguments: Sequence[str] = ()) -> list[str]:
        """A command that runs it as Kubernetes does: its user, its root read-only, no new rights.

        `config` is the directory that is mounted; without arguments it does what it does by itself.
        """
        user, group = self.config.user.split(":")
        environment = dict(each.split("=", 1) for each in self.config.env)
        program = self.root / environment["PATH"].lstrip("/") / self.config.entrypoint[0]
        mounts = (
            f"mount --bind {self.root} {self.root}",
            f"mount --bind {config} {self.root}/etc/penstock/config",
            f"mount --rbind /dev {self.root}/dev",
            f"mount -o remount,bind,ro {self.root}",
            'exec "$@"',
        )
        alone = ["env", "-i", *self.config.env, _path("setpriv"), "--no-new-privs", "--"]
        inside = [_path("unshare"), f"--root={self.root}", f"--setgid={group}", f"--setuid={user}"]
        started = [f"/{program.relative_to(self.root)}", *(arguments or self.config.cmd)]
        mounted = ["unshare", "--mount", "sh", "-c", " && ".join(mounts), "sh"]
        return [*mounted, *alone, *inside, *started]


def _path(program: str) -> str:
    return shutil.which(program) or program


def needs() -> None:
    """Skip where it cannot be built."""
    missing = [each for each in PROGRAMS if shutil.which(each) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    if os.geteuid() != 0:
        pytest.skip("only root may make file systems and mount them")


@contextmanager
def built(folder: Path) -> Iterator[Image]:
    """The image of this tree; everything is in the folder, and goes with the block."""
    base, wheels = folder / "base.tar", folder / "wheels"
    _run(
        "mmdebstrap",
        "--quiet",
        "--variant=extract",
        f"--include={PACKAGES}",
        f"--extract-hook={CERTIFICATES}",
        _suite(),
        base,
    )
    _buildah(folder, "from", "--name=base", "scratch")
    _buildah(folder, "add", "--quiet", "base", base, "/")
    version = _buildah(folder, "run", "--isolation=chroot", "base", "--", "python3", "-c", VERSION)
    _download(wheels, version)
    _buildah(folder, "commit", "--quiet", "--rm", "base", BASE)
    _buildah(
        folder,
        "build",
        "--isolation=chroot",
        "--layers=false",
        "--pull=never",
        f"--build-arg=BASE={BASE}",
        "--build-arg=PIP_NO_INDEX=1",
        "--build-arg=PIP_FIND_LINKS=/wheels",
        f"--volume={wheels}:/wheels:ro",
        f"--file={DEPLOY}/docker/Dockerfile",
        f"--ignorefile={DEPLOY}/docker/Dockerfile.dockerignore",
        f"--tag={NAME}",
        DEPLOY.parent,
    )
    described = msgspec.json.decode(
        _buildah(folder, "inspect", "--type=image", NAME), type=Description
    )
    _buildah(folder, "from", "--name=penstock", "--pull=never", NAME)
    try:
        yield Image(described.oci.config, Path(_buildah(folder, "mount", "penstock").strip()))
    finally:
        _buildah(folder, "umount", "penstock")
        _buildah(folder, "rm", "--all")


VERSION = 'import sys; print("{}.{}".format(*sys.version_info))'


def _suite() -> str:
    release = Path("/etc/os-release").read_text()
    lines = dict(line.split("=", 1) for line in release.splitlines() if "=" in line)
    return lines["VERSION_CODENAME"]


def _download(wheels: Path, version: str) -> None:
    """What the lock file names, for the base's Python."""
    _run(
        sys.executable,
        *("-m", "pip", "download", "--quiet", "--require-hashes", "--only-binary=:all:"),
        f"--python-version={version.strip()}",
        f"--dest={wheels}",
        f"--requirement={DEPLOY}/docker/requirements.lock",
    )


def _buildah(folder: Path, *arguments: str | Path) -> str:
    storage = (f"--root={folder}/storage", f"--runroot={folder}/run", "--storage-driver=vfs")
    return _run("buildah", *storage, *arguments)


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout
