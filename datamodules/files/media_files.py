"""Picture and sound files as rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from datamodules.files.base import Row, RowFile
from pipeline.errors import PollinateError

IMAGES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
SOUNDS = frozenset({".aif", ".aiff", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav"})
KINDS = {"image": IMAGES, "audio": SOUNDS}


class MediaFiles(RowFile):
    """Pictures or sounds, a single file or a folder's: the column ``path``, below the folder."""

    unit = "file"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns = ["path"]
        found = {name: files_below(path, kinds) for name, kinds in KINDS.items()}
        modalities = [name for name, files in found.items() if files]
        if len(modalities) != 1:
            kinds = ", ".join(sorted(IMAGES | SOUNDS))
            raise PollinateError(
                f"{path} has both images and sounds; give a folder, or a table, of one kind"
                if modalities
                else f"{path} has no images or sounds at any depth; looked for {kinds}"
            )
        self.files = found[modalities[0]]
        self.known = {modalities[0]: "path"}

    @property
    def folder(self) -> Path:
        """The folder itself, or that of the single file."""
        return self.path if self.path.is_dir() else self.path.parent

    def rows(self) -> Iterator[Row]:
        """Yield the paths."""
        for number, file in enumerate(self.files, start=1):
            yield Row({"path": str(file.relative_to(self.folder))}, line=number)


def files_below(path: Path, suffixes: Collection[str]) -> list[Path]:
    """Return the files of these kinds at any depth of a folder, sorted; or the file itself.

    Hidden files, some systems' notes, are left out.
    """
    if not path.is_dir():
        return [path] if path.suffix.lower() in suffixes else []
    return sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in suffixes and not file.name.startswith(".") and file.is_file()
    )
