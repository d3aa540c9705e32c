"""Checkpoints that are whole or absent: written beside their target, checked when read."""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from pipeline.errors import PollinateError
from pipeline.shards import SHARDS, Shards, shard_files

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError)


class CorruptCheckpointError(PollinateError):
    """A checkpoint file that is torn or whose checksum doesn't fit its content."""


class AtomicCheckpointIO(CheckpointIO):
    """Writes to a temporary file in the same folder, syncs it, then renames it.

    The checksum is the CRC-32 that the zip format of ``torch.save`` holds for each of its parts,
    so a checkpoint is one file, and stays checkable wherever it is copied.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write a checkpoint; the file at ``path`` is replaced only by a whole one.

        Raises:
            PollinateError: the file can't be written (full disk, no right to).
        """
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: Any = None
    ) -> dict[str, Any]:
        """Read a checkpoint; see ``read_checkpoint``."""
        return read_checkpoint(Path(path), map_location)

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write atomically; see ``AtomicCheckpointIO.save_checkpoint``."""
    with explained_write(path):
        write_file(checkpoint, path)


def write_file(content: dict[str, Any], path: Path) -> None:
    """Write a file that is whole or absent.

    Raises:
        OSError, RuntimeError: it can't be written; torch turns a failed write into the latter.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save(content, file)
            _sync_file(file)
        temporary.replace(path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError):
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def explained_write(path: Path) -> Iterator[None]:
    """Say of a failure which checkpoint it concerns and what to do."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        kept = f"{path} of before is intact" if path.exists() else "no checkpoint was there before"
        reason = _write_failure(error)
        raise PollinateError(
            f"checkpoint {path} can't be written: {reason}; {kept}. "
            f"Make room, then go on with resume={path.parent.parent}"
        ) from error


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Return a checkpoint, with what lies in shards; see ``read_checked``."""
    checkpoint = read_checked(path, map_location)
    files = shard_files(checkpoint, path)
    if files:
        del checkpoint[SHARDS]
        checkpoint = Shards(files).filled(checkpoint)
    return checkpoint


def read_checked(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Check all checksums, then load a checkpoint's own file; see ``read_index``.

    Raises:
        PollinateError: there is no such file, or it is no checkpoint of this project.
        CorruptCheckpointError: it or a shard is torn or changed.
    """
    if not path.is_file():
        raise PollinateError(f"there is no checkpoint {path}; give an existing file")
    check(path)
    return read_index(path, map_location)


def read_index(path: Path, map_location: Any = "cpu", mmap: bool = False) -> dict[str, Any]:
    """Load a checkpoint's own file with weights_only; what lies in shards has no values.

    Args:
        path: of the checkpoint.
        map_location: device of the tensors.
        mmap: whether values stay in the file until they are looked at; not to be changed then.

    Raises:
        PollinateError: it is no checkpoint of this project.
    """
    return required(torch.load(path, map_location=map_location, mmap=mmap, weights_only=True), path)


def read_mapped(path: Path) -> dict[str, Any]:
    """Check all checksums and return a checkpoint, mapped from its file; see ``read_index``.

    Raises:
        PollinateError: it is no checkpoint of this project.
        CorruptCheckpointError: it or a shard is torn or changed.
    """
    return required(check(path), path)


def required(content: Any, path: Path) -> dict[str, Any]:
    """Return what a file holds, which must be a checkpoint."""
    if not isinstance(content, dict) or "state_dict" not in content:
        raise PollinateError(f"{path} is no checkpoint: it holds no state_dict")
    return content


def check(path: Path) -> Any:
    """Compare each part of the file with its checksum, and look whether torch can open it.

    Returns:
        What the file holds, mapped from it and not to be changed; None if it isn't of this project.

    Raises:
        CorruptCheckpointError: they differ, the file is no whole zip archive, or a shard is absent.
    """
    found = _opened(path)
    for shard in shard_files(found, path):
        if not shard.is_file():
            raise CorruptCheckpointError(f"checkpoint {path} lacks its shard {shard}")
        _opened(shard)
    return found


def fingerprint(files: Iterable[Path]) -> str:
    """Return a checksum of a checkpoint and its shards, made of those that the files hold."""
    state = hashlib.sha256()
    for file in files:
        with zipfile.ZipFile(file) as archive:
            for part in archive.infolist():
                # the archive's own name, the file's before it was renamed, is not part of it
                name = part.filename.partition("/")[2]
                state.update(f"{name} {part.file_size} {part.CRC:08x}\n".encode())
    return state.hexdigest()


def _opened(path: Path) -> Any:
    """Return what a whole file holds; None if it isn't of this project."""
    found = None
    with path.open("rb") as file:
        try:
            damaged = _damaged_part(file)
            if damaged is None:
                # torch's reader looks at headers that zipfile passes over
                found = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        except pickle.UnpicklingError:
            return None  # whole, though not of this project
        except _UNREADABLE as error:
            raise CorruptCheckpointError(
                f"checkpoint {path} is torn or changed: {error}"
            ) from error
    if damaged is not None:
        raise CorruptCheckpointError(f"checkpoint {path} is changed: {damaged} fails its checksum")
    return found


def _damaged_part(file: BinaryIO) -> str | None:
    """Return the name of a part that isn't as torch wrote it, or None."""
    with zipfile.ZipFile(file) as archive:
        # torch leaves attributes empty, and reads nothing of a part that is marked as a folder
        marked = (part.filename for part in archive.infolist() if part.external_attr)
        return next(marked, None) or archive.testzip()


def newest_good(paths: Iterable[Path]) -> Path:
    """Return the newest file that passes its checksums; warns of each newer one that doesn't.

    Raises:
        PollinateError: there is none.
    """
    tried = sorted((p for p in paths if p.is_file()), key=lambda p: p.stat().st_mtime_ns)
    for path in reversed(tried):
        try:
            check(path)
        except CorruptCheckpointError as error:
            warnings.warn(f"{error}; trying the one before it", stacklevel=2)
        else:
            return path
    raise PollinateError(
        f"no good checkpoint among {', '.join(map(str, tried)) or 'no files at all'}; "
        "start a new run"
    )


def make_whole(path: Path) -> None:
    """Replace a checkpoint that has shards by one plain file with the same content."""
    if shard_files(read_index(path), path):
        write_checkpoint(read_checkpoint(path), path)
        remove_unused_shards(path.parent)


def remove_unused_shards(folder: Path) -> None:
    """Delete the shards that no checkpoint of the folder names, unless one can't be read."""
    used: set[Path] = set()
    for path in folder.glob("*.ckpt"):
        try:
            used |= set(shard_files(read_index(path), path))
        except (PollinateError, pickle.UnpicklingError, *_UNREADABLE):
            return
    for file in (folder / SHARDS).glob("*"):
        if file not in used:
            file.unlink(missing_ok=True)


def _write_failure(error: Exception) -> str:
    cause = error if isinstance(error, OSError) else error.__context__
    return (cause.strerror or str(cause)) if isinstance(cause, OSError) else str(error)


def _sync_file(file: BinaryIO) -> None:
    """Make a file's content survive a power cut."""
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
