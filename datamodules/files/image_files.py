"""Image files as rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from types import MappingProxyType

from datamodules.files.base import Row, RowFile
from pipeline.errors import PollinateError

IMAGES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


class ImageFiles(RowFile):
    """Image files, a single one or a folder's: the column ``path``, relative to the folder."""

    unit = "file"
    known = MappingProxyType({"image": "path"})

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns = ["path"]
        self.files = files_below(path, IMAGES) if path.is_dir() else [path]
        if not self.files:
            kinds = ", ".join(sorted(IMAGES))
            raise PollinateError(f"{path} has no images at any depth; looked for {kinds}")

    @property
    def folder(self) -> Path:
        """The folder itself, or that of the single image."""
        return self.path if self.path.is_dir() else self.path.parent

    def rows(self) -> Iterator[Row]:
        """Yield the paths."""
        for number, file in enumerate(self.files, start=1):
            yield Row({"path": str(file.relative_to(self.folder))}, line=number)


def files_below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Return the files of these kinds at any depth, sorted.

    Hidden files, some systems' notes, are left out.
    """
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    )
