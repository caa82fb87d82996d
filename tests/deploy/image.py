"""The container image, built without an engine and without a registry, and run from its files.

The base is what debootstrap makes of the distribution that the tests run on, from the mirror that
its apt asks, and Python. The wheels are downloaded by the pip of the tests: the build itself needs
no network. buildah stands in for docker, so that what is run is what the pages say.
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

PROGRAMS = ("debootstrap", "buildah", "unshare", "setpriv")
PACKAGES = "python3,python3-venv,ca-certificates"
BASE = "localhost/base"
# Half of what there is, and copied with each step.
UNUSED = (
    *("var/cache/apt/archives", "var/lib/apt/lists"),
    *("usr/share/doc", "usr/share/locale", "usr/share/man"),
)
BUILDAH = "buildah --root={folder}/storage --runroot={folder}/run --storage-driver=vfs"
MIRROR = (
    *("apt-get", "indextargets", "--no-release-info", "--format=$(SITE)"),
    *("Created-By: Packages", "Component: main"),
)
DOCKER = """\
#!/bin/sh
# The docker of the pages, by buildah: images are pushed to a folder.
command=$1; shift
case $command in
build) set -- --isolation=chroot --layers=false --pull=never --volume={folder}/wheels:/wheels:ro \\
    --build-arg=PIP_NO_INDEX=1 --build-arg=PIP_FIND_LINKS=/wheels \\
    --ignorefile=deploy/docker/Dockerfile.dockerignore "$@" ;;
push) set -- --disable-compression "$1" "oci:{folder}/pushed:$1" ;;
tag) ;;
*) exit 64 ;;
esac
exec {buildah} "$command" "$@"
"""


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


class Annotated(msgspec.Struct, frozen=True):
    """What is said of an image in a folder of images."""

    annotations: dict[str, str]


class Index(msgspec.Struct, frozen=True):
    """A folder of images."""

    manifests: list[Annotated]


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


class Workshop(msgspec.Struct, frozen=True):
    """Where images are made: a folder with buildah's storage, and a docker that fills it."""

    folder: Path

    def prepare(self) -> None:
        """Make the base, the wheels and the docker."""
        script = self.folder / "bin/docker"
        script.parent.mkdir()
        buildah = BUILDAH.format(folder=self.folder)
        script.write_text(DOCKER.format(folder=self.folder, buildah=buildah))
        script.chmod(0o755)
        self._buildah("from", "--name=base", "scratch")
        _debootstrap(Path(self._buildah("mount", "base")))
        version = self._buildah("run", "--isolation=chroot", "base", "--", "python3", "-c", VERSION)
        self._buildah("commit", "--quiet", "--rm", "base", BASE)
        _download(self.folder / "wheels", version)

    def run(self, commands: str) -> str:
        """What these commands of a page say, run in the repository, on the base made here."""
        path = f"{self.folder}/bin:{os.environ['PATH']}"  # noqa: TID251 - a person's shell has it too
        # The make that runs the tests says nothing to the make of a page.
        alone = ("env", "--unset=MAKEFLAGS", "--unset=MAKELEVEL")
        return _run(*alone, f"PATH={path}", f"BASE={BASE}", "sh", "-euc", commands)

    def unpacked(self, name: str) -> Image:
        """An image, to be run from a folder that goes with the workshop."""
        inspected = self._buildah("inspect", "--type=image", name)
        described = msgspec.json.decode(inspected, type=Description)
        container = self._buildah("from", "--pull=never", name)
        return Image(described.oci.config, Path(self._buildah("mount", container)))

    def pushed(self) -> set[str]:
        """The names that were pushed."""
        index = msgspec.json.decode((self.folder / "pushed/index.json").read_bytes(), type=Index)
        named = "org.opencontainers.image.ref.name"
        return {each.annotations[named] for each in index.manifests}

    def clear(self) -> None:
        """Let go of every folder."""
        self._buildah("umount", "--all")
        self._buildah("rm", "--all")

    def _buildah(self, *arguments: str) -> str:
        return _run(*BUILDAH.format(folder=self.folder).split(), *arguments).strip()


@contextmanager
def workshop(folder: Path) -> Iterator[Workshop]:
    """A workshop; everything is in the folder, and goes with the block."""
    made = Workshop(folder)
    try:
        made.prepare()
        yield made
    finally:
        made.clear()


VERSION = 'import sys; print("{}.{}".format(*sys.version_info))'


def _debootstrap(root: Path) -> None:
    suite = _suite()
    # A base that is made for one test need not survive a power cut.
    unsafe = root / "etc/dpkg/dpkg.cfg.d/unsafe-io"
    unsafe.parent.mkdir(parents=True)
    unsafe.write_text("force-unsafe-io\n")
    mirror = _run(*MIRROR, f"Release: {suite}").split()[0]
    _run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, root, mirror)
    for each in UNUSED:
        shutil.rmtree(root / each)


def _suite() -> str:
    release = Path("/etc/os-release").read_text()
    lines = dict(line.split("=", 1) for line in release.splitlines() if "=" in line)
    return lines["VERSION_CODENAME"]


def _download(wheels: Path, version: str) -> None:
    """What the lock files name, for the base's Python."""
    _run(
        sys.executable,
        *("-m", "pip", "download", "--quiet", "--require-hashes", "--only-binary=:all:"),
        f"--python-version={version}",
        f"--dest={wheels}",
        *(f"--requirement={lock}" for lock in sorted(DEPLOY.glob("docker/*.lock"))),
    )


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=DEPLOY.parent)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout
