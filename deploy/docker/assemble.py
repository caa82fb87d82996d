"""Put together the root of the image: python assemble.py PACKAGES ROOT, by the image's Python.

The environment of this Python, the packages, the interpreter with its standard library, and the
shared libraries that any of them loads. A library is taken because a file names it (ldd), never
because it lies somewhere.
"""

from __future__ import annotations

import compileall
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from py_compile import PycInvalidationMode

ENVIRONMENT = Path(sys.prefix)
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
LEFT_OUT = shutil.ignore_patterns(
    "__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3",
    "pydoc_data", "site-packages", "dist-packages", "config-*",
)  # fmt: skip
COMMAND = """\
#!{python}
import sys
from proxy.cli import main
sys.exit(main())
"""
FILES = {
    "etc/passwd": "penstock:x:65532:65532::/:/sbin/nologin\n",
    "etc/group": "penstock:x:65532:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
MOUNTED = ("etc/penstock/config", "etc/penstock/keys", "proc", "dev", "tmp")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def main() -> None:
    """Make the root."""
    packages, root = map(Path, sys.argv[1:])
    installed = Path(sysconfig.get_path("purelib"))
    shutil.copytree(packages, installed, dirs_exist_ok=True, ignore=LEFT_OUT)
    command = ENVIRONMENT / "bin/penstock"
    command.write_text(COMMAND.format(python=ENVIRONMENT / "bin/python3"))
    command.chmod(0o755)

    interpreter = Path(sys.executable).resolve()
    shutil.copytree(ENVIRONMENT, root / inside(ENVIRONMENT), symlinks=True, ignore=_scripts)
    shutil.copytree(STANDARD_LIBRARY, root / inside(STANDARD_LIBRARY), ignore=LEFT_OUT)
    copy(interpreter, root)
    _keep_links(root)
    for library in libraries([interpreter, *root.rglob("*.so"), *root.rglob("*.so.*")]):
        copy(library, root)
    copy(CERTIFICATES, root)
    for name in MOUNTED:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, content in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    # The root is read-only: what is not compiled now would be compiled at each start.
    for folder in (STANDARD_LIBRARY, installed):
        compileall.compile_dir(
            root / inside(folder),
            quiet=1,
            stripdir=root,
            prependdir="/",
            invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
        )


def inside(path: Path) -> Path:
    """An absolute path as one below a root."""
    return path.relative_to("/")


def copy(path: Path, root: Path) -> None:
    """A file to its place in the root, the content where the path is a link."""
    target = root / inside(path)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)


def libraries(files: Iterable[Path]) -> set[Path]:
    """The shared libraries that these files load, the loader too."""
    return {Path(found) for each in files for found in _loaded(each)}


def _loaded(file: Path) -> Iterator[str]:
    command = ["ldd", file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - files that pip and the base brought
    if "not found" in done.stdout:
        sys.exit(f"{file} needs what is not here:\n{done.stdout}")
    yield from re.findall(r"(?:=> |^\s*)(/\S+) \(0x", done.stdout, re.MULTILINE)


def _keep_links(root: Path) -> None:
    """The names by which the environment's links lead to the interpreter, as links."""
    link = ENVIRONMENT / "bin/python3"
    while link.is_symlink():
        kept = root / inside(link)
        if not kept.is_symlink():
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.symlink_to(link.readlink())
        link = link.parent / link.readlink()


def _scripts(folder: str, names: list[str]) -> list[str]:
    """Of the environment's programs only ours and Python; and nothing compiled."""
    if Path(folder) == ENVIRONMENT / "bin":
        return [name for name in names if not name.startswith(("penstock", "python"))]
    return [name for name in names if name in ("__pycache__", "lib64", "include")]


if __name__ == "__main__":
    main()
