"""A ConfigMap or Secret in a directory, as the kubelet keeps it (its AtomicWriter).

The files are links through `..data`, itself a link to a directory of one version. A new version is
written beside the old one and goes live by the rename of one link; the old one is then removed.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from itertools import count
from pathlib import Path


class ProjectedVolume:
    """The directory that a container mounts."""

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        folder.mkdir()
        self.folder = folder
        self._versions = (folder / f"..2026_11_20_12_00_00.{number:09}" for number in count())
        self.update(files)

    def update(self, files: Mapping[str, str]) -> None:
        """Put these files in the place of what was there, all of them at once."""
        version, data = next(self._versions), self.folder / "..data"
        version.mkdir()
        for name, content in files.items():
            (version / name).write_text(content)
        before = self.folder / data.readlink() if data.is_symlink() else None
        temporary = self.folder / "..data_tmp"
        temporary.symlink_to(version.name)
        temporary.replace(data)
        self._link(files)
        if before is not None:
            shutil.rmtree(before)

    def _link(self, files: Mapping[str, str]) -> None:
        for path in self.folder.iterdir():
            if not path.name.startswith("..") and path.name not in files:
                path.unlink()
        for name in files:
            link = self.folder / name
            if not link.is_symlink():
                link.symlink_to(Path("..data") / name)
