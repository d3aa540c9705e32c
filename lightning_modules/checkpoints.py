"""Checkpoints: written atomically, in shards if need be, verified when read; the spec in them."""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.strategies import ParallelStrategy
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor, Shard

from datamodules.cache import stamp
from pollinate.errors import PollinateError
from pollinate.files import temporary_beside
from pollinate.foreign import check_extent
from pollinate.overrides import option_text

MOST_VALUES = 3_000_000  # numbers, texts and tensors in a checkpoint
SHARDS = "shards"  # name of the folder, and of the key that names the files
SHARD_NAME = re.compile(r"[0-9a-f]+-[0-9]+-of-[0-9]+\.shard")  # a path out of the folder is none


def shard_name(save: str, rank: int, world: int) -> str:
    """Return the name of a process's file of one save, whose own name is hexadecimal."""
    return f"{save}-{rank}-of-{world}.shard"


def shard_files(checkpoint: Any, path: Path) -> list[Path]:
    """Return the shards of a checkpoint that was read from ``path``; none: it is whole.

    Raises:
        PollinateError: a name leads elsewhere.
    """
    names = checkpoint.get(SHARDS, []) if isinstance(checkpoint, dict) else []
    if not all(isinstance(name, str) and SHARD_NAME.fullmatch(name) for name in names):
        raise PollinateError(f"{path} names shards that pipeline.fit didn't write: {names}")
    return [path.parent / SHARDS / name for name in names]


def split_off_shard(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return (the checkpoint without values of sharded tensors, {place: this process's rows})."""
    own: dict[str, Tensor] = {}

    def without(place: str, tensor: Tensor) -> Tensor:
        if not isinstance(tensor, DTensor):
            return tensor
        assert tensor.placements == (Shard(0),)
        own[place] = tensor.to_local().detach().to("cpu", copy=True)
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")

    return map_tensors(dict(checkpoint), without), own


class ShardReader:
    """Reads the rows of tensors, wherever they lie.

    Args:
        files: shards of one save by rank; none: tensors have their values.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._parts = [
            torch.load(file, map_location="cpu", mmap=True, weights_only=True)["tensors"]
            for file in files
        ]

    def filled(self, tree: Any, at: str = "", likes: Mapping[str, Tensor] | None = None) -> Any:
        """Return a part of a checkpoint with all values.

        Args:
            tree: nested dicts and lists, as ``split_off_shard`` left them.
            at: place of the tree in its checkpoint.
            likes: {place: a tensor of which each process holds its rows}; a tensor at that place,
                or one level below, of the same shape, is read and spread alike.
        """
        known = likes or {}

        def fill(place: str, tensor: Tensor) -> Tensor:
            like = known.get(place, known.get(place.rpartition("/")[0]))
            if isinstance(like, DTensor) and like.shape == tensor.shape:
                return self._piece(place, tensor, like)
            return self._rows(place, tensor, 0, len(tensor)) if tensor.is_meta else tensor

        return map_tensors(tree, fill, at)

    def _piece(self, place: str, tensor: Tensor, like: DTensor) -> DTensor:
        mesh = like.device_mesh
        rows = -(-len(tensor) // mesh.size())
        start = min(rows * mesh.get_local_rank(), len(tensor))
        own = self._rows(place, tensor, start, min(start + rows, len(tensor)))
        return DTensor.from_local(
            own.to(like.device),
            mesh,
            like.placements,
            run_check=False,
            shape=like.shape,
            stride=like.stride(),
        )

    def _rows(self, place: str, tensor: Tensor, start: int, stop: int) -> Tensor:
        """Return a copy of the rows [start, stop)."""
        if not tensor.is_meta:
            return tensor[start:stop].clone()
        found, first = [], 0
        for part in self._parts:
            own = part[place]
            found.append(own[max(start - first, 0) : max(stop - first, 0)])
            first += len(own)
        return torch.cat(found)


def map_tensors(tree: Any, function: Callable[[str, Tensor], Tensor], at: str = "") -> Any:
    """Apply a function of (place, tensor) to all tensors of nested dicts, lists and tuples."""
    if isinstance(tree, Tensor):
        return function(at, tree)
    if isinstance(tree, dict):
        return {key: map_tensors(value, function, f"{at}/{key}") for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(map_tensors(v, function, f"{at}/{i}") for i, v in enumerate(tree))
    return tree


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
    with checkpoint_write_errors(path):
        write_atomically(checkpoint, path)


def write_atomically(content: dict[str, Any], path: Path) -> None:
    """Write a file that is whole or absent.

    Raises:
        OSError, RuntimeError: it can't be written; torch turns a failed write into the latter.
    """
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            torch.save(content, file)
            _sync_file(file)
        temporary.replace(path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError):
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def checkpoint_write_errors(path: Path) -> Iterator[None]:
    """Say of a failure which checkpoint it concerns and what to do."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        kept = (
            f"{path} from before is intact" if path.exists() else "there was no checkpoint before"
        )
        reason = _write_failure(error)
        raise PollinateError(
            f"checkpoint {path} can't be written: {reason}; {kept}. "
            f"Free some space, then resume with {option_text('resume', path.parent.parent)}"
        ) from error


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Return a checkpoint, with what lies in shards; see ``read_verified``."""
    checkpoint = read_verified(path, map_location)
    files = shard_files(checkpoint, path)
    if files:
        del checkpoint[SHARDS]
        checkpoint = ShardReader(files).filled(checkpoint)
    return checkpoint


def read_verified(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Check all checksums, then load a checkpoint's own file; see ``read_index``.

    Raises:
        PollinateError: there is no such file, or it is no checkpoint of this project.
        CorruptCheckpointError: it or a shard is torn or changed.
    """
    if not path.is_file():
        raise PollinateError(f"there is no checkpoint {path}; give an existing file")
    if not is_unchanged(path):
        verify_checkpoint(path)
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
    try:
        found = torch.load(path, map_location=map_location, mmap=mmap, weights_only=True)
    except pickle.UnpicklingError as error:
        raise PollinateError(
            f"{path} is no checkpoint of this project: it holds more than tensors and plain "
            "values, which could run code"
        ) from error
    return load_own_file(found, path)


def read_mapped(path: Path) -> dict[str, Any]:
    """Check all checksums and return a checkpoint, mapped from its file; see ``read_index``.

    Raises:
        PollinateError: it is no checkpoint of this project.
        CorruptCheckpointError: it or a shard is torn or changed.
    """
    return load_own_file(verify_checkpoint(path), path)


def load_own_file(content: Any, path: Path) -> dict[str, Any]:
    """Return what a file holds, which must be a checkpoint."""
    if not isinstance(content, dict) or "state_dict" not in content:
        raise PollinateError(f"{path} is no checkpoint: it holds no state_dict")
    try:
        check_extent(content, MOST_VALUES)
    except ValueError as error:
        raise PollinateError(f"{path} is no checkpoint of pollinate: {error}") from error
    return content


def verify_checkpoint(path: Path) -> Any:
    """Compare each part of the file with its checksum, and look whether torch can open it.

    Returns:
        What the file holds, mapped from it and not to be changed; None if it isn't of this project.

    Raises:
        CorruptCheckpointError: they differ, the file is no whole zip archive, or a shard is absent.
    """
    stamps = {path: stamp(path)}
    found = _opened(path)
    for shard in shard_files(found, path):
        if not shard.is_file():
            raise CorruptCheckpointError(f"checkpoint {path} lacks its shard {shard}")
        stamps[shard] = stamp(shard)
        _opened(shard)
    if found is not None:
        _intact[path.absolute()] = stamps
    return found


# {checkpoint: {its file or shard: its stamp}} of those that this process has found intact: a run
# scores, sends and exports the same one, and it may have gigabytes
_intact: dict[Path, dict[Path, list[int]]] = {}


def is_unchanged(path: Path) -> bool:
    """Say whether this process has found a checkpoint intact that nobody has written to since."""
    known = _intact.get(path.absolute())
    return known is not None and all(
        file.is_file() and stamp(file) == was for file, was in known.items()
    )


def checkpoint_fingerprint(files: Iterable[Path]) -> str:
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
        # torch leaves attributes empty, reads nothing of a part that is marked as a folder, and
        # compresses nothing: what is compressed may unpack without end
        marked = (
            part.filename
            for part in archive.infolist()
            if part.external_attr
            or part.compress_type != zipfile.ZIP_STORED
            or part.file_size != part.compress_size
        )
        return next(marked, None) or archive.testzip()


def is_intact(path: Path) -> bool:
    """Say whether a checkpoint is there and passes its checksums."""
    if is_unchanged(path):
        return True
    try:
        verify_checkpoint(path)
    except (CorruptCheckpointError, FileNotFoundError):
        return False
    return True


def newest_intact(paths: Iterable[Path]) -> Path:
    """Return the file of the latest step that passes its checksums; warns of those that don't.

    A file's own time says little: of a copy, say, or after the clock was set back.

    Args:
        paths: of equal steps the first one is taken.

    Raises:
        PollinateError: there is none.
    """
    steps = {path: step_in(path) for path in paths if path.is_file()}
    tried = sorted(steps, key=lambda path: -steps[path])
    for path in tried:
        try:
            verify_checkpoint(path)
        except CorruptCheckpointError as error:
            warnings.warn(f"{error}; trying the one before it", stacklevel=2)
        else:
            return path
    raise PollinateError(
        f"no good checkpoint among {', '.join(map(str, tried)) or 'no files at all'}; "
        "start a new run"
    )


def step_in(path: Path) -> float:
    """Return the optimizer step that a checkpoint says; infinity if it can't be read."""
    try:
        return float(read_index(path, mmap=True).get("global_step", -1))
    except (PollinateError, *_UNREADABLE):
        return math.inf


def consolidate_shards(path: Path) -> None:
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
        except (PollinateError, *_UNREADABLE):
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


def write_sharded(
    strategy: ParallelStrategy, index: dict[str, Any], own: dict[str, Any], filepath: Any
) -> None:
    """Write this process's shard; once all are there, rank 0 writes the file that names them.

    Args:
        strategy: of the processes, all of which take part.
        index: content of the checkpoint's own file; rank 0's counts.
        own: content of this process's shard.
        filepath: the checkpoint's own file; rank 0's counts.

    Raises:
        PollinateError: a process can't write; all processes raise it.
    """
    path, save = strategy.broadcast((Path(filepath), uuid4().hex))
    world = strategy.world_size
    names = [shard_name(save, rank, world) for rank in range(world)]
    _write_together(own, path.parent / SHARDS / names[strategy.global_rank], path, world)
    index = {**index, SHARDS: names}
    _write_together(index if strategy.is_global_zero else None, path, path, world)
    if strategy.is_global_zero:
        remove_unused_shards(path.parent)


def _write_together(content: dict[str, Any] | None, file: Path, path: Path, world: int) -> None:
    """Write a file of a checkpoint, if there is content; fail on all processes or none."""
    failure = None
    try:
        with checkpoint_write_errors(path):
            if content is not None:
                write_atomically(content, file)
    except PollinateError as error:
        failure = error
    failures: list[PollinateError | None] = [None] * world
    distributed.all_gather_object(failures, failure)
    first = next((one for one in failures if one is not None), None)
    if first is not None:
        raise failure or first


SPEC_FORMAT = (
    1  # of what a checkpoint holds under "pollinate"; raised when older code can't read it
)
MERGED_KEY = "merged"  # key that says of which models one was made


def read_spec(checkpoint: Path) -> dict[str, Any]:
    """Return what a checkpoint says of its model.

    Raises:
        PollinateError: it was not made by this project, or by a later version.
    """
    return spec_in(read_verified(checkpoint), checkpoint)


def spec_in(content: Mapping[str, Any], checkpoint: Path) -> dict[str, Any]:
    """Return what the content of a checkpoint says of its model; see ``read_spec``."""
    spec = content.get("pollinate")
    if not isinstance(spec, dict):
        raise PollinateError(f"{checkpoint} was not written by pipeline.fit: it has no 'pollinate'")
    if spec.get("format") != SPEC_FORMAT:
        raise PollinateError(
            f"{checkpoint} has format {spec.get('format')}, this version reads {SPEC_FORMAT}; "
            "use the version of pollinate that wrote it"
        )
    if not all(isinstance(spec.get(key), dict) for key in ("config", "learnt")):
        raise PollinateError(f"{checkpoint} doesn't say what its model is made of; it is damaged")
    return spec


def require_training_config(spec: Mapping[str, Any], checkpoint: Path) -> None:
    """Check that a model knows how it was trained, which one that is served does not."""
    if not all(isinstance(spec["config"].get(key), dict) for key in ("trainer", "data")):
        raise PollinateError(
            f"{checkpoint} is a model as it is served: it predicts, and knows neither its data nor "
            "its training; give the run's folder, its checkpoints/best.ckpt, or its MLflow run id"
        )
