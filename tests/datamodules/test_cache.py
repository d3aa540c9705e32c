"""The cache: damage is seen and mended, a full disk is named."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules import cache as cache_module
from datamodules.arrays import FileArrays, reserve, save_array
from datamodules.cache import DONE, Cache, file_stamp
from datamodules.modalities.image import ImageModality
from pollinate.errors import PollinateError


class Made:
    """Fills a folder, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, folder: Path) -> None:
        self.times += 1
        (folder / "rows").write_bytes(b"0123456789")
        (folder / "more").write_bytes(b"")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def overwrite(path: Path) -> None:
    """Change the content, and set the time back: only the time of the change tells."""
    before = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_file(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"x" * path.stat().st_size)
    other.replace(path)


@pytest.mark.parametrize("harm", [cut, overwrite, replace_file, Path.unlink])
def test_what_was_damaged_is_made_again_and_said(harm: Any, tmp_path: Path) -> None:
    made, cache = Made(), Cache(tmp_path)
    entry = cache.get("kind", ["key"], made)
    assert cache.get("kind", ["key"], made) == entry
    assert (made.times, cache.notes) == (1, [])
    harm(entry / "rows")
    assert cache.find("kind", ["key"]) is None
    assert cache.get("kind", ["key"], made) == entry
    assert (entry / "rows").read_bytes() == b"0123456789"
    assert made.times == 2
    (note,) = cache.notes
    assert note.startswith(f"{entry} in the cache was damaged (rows ")
    assert note.endswith("and was made again")
    assert cache.find("kind", ["key"]) == entry


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"rows": 1}', '{"rows": []}'])
def test_without_its_checksums_a_result_is_made_again(content: str, tmp_path: Path) -> None:
    made, cache = Made(), Cache(tmp_path)
    entry = cache.get("kind", ["key"], made)
    (entry / DONE).write_text(content)
    cache.get("kind", ["key"], made)
    assert made.times == 2


def test_a_copied_cache_is_read_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made()
    Cache(tmp_path / "a").get("kind", ["key"], made)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    read: list[Path] = []
    content = cache_module.size_and_crc
    monkeypatch.setattr(cache_module, "size_and_crc", lambda p: read.append(p) or content(p))
    Cache(tmp_path / "b").get("kind", ["key"], made)
    assert len(read) > 0
    read.clear()
    Cache(tmp_path / "b").get("kind", ["key"], made)
    assert read == []
    assert made.times == 1


def test_prepared_rows_are_never_other_rows(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    modality, cache = ImageModality([8, 8], channels=1), Cache(tmp_path)
    before = modality.prepare_cached(pictures, cache, "key").store.rows(np.arange(30))
    (file,) = tmp_path.glob("inputs/*/pixels.npy")
    with file.open("r+b") as opened:
        opened.seek(-50, os.SEEK_END)
        opened.write(bytes(50))
    after = modality.prepare_cached(pictures, cache, "key").store.rows(np.arange(30))
    assert before.equal(after)
    assert len(cache.notes) == 1


def test_a_file_of_the_same_size_and_time_is_another(tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(b"one")
    known = file_stamp(file)
    assert file_stamp(file) == known
    overwrite(file)
    assert file_stamp(file)[:3] == known[:3]
    changed = file_stamp(file)
    assert changed != known
    before = file.stat()
    other = tmp_path / "other.png"
    other.write_bytes(b"two")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)
    assert file_stamp(file) not in (known, changed)


# a full disk


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Have the system refuse larger files, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


ROWS = np.zeros(1 << 18)


def ragged(folder: Path) -> None:
    rows = FileArrays(folder).grow("rows", np.float64)
    rows.append(ROWS)
    rows.close()


@pytest.mark.parametrize(
    "fill",
    [
        lambda folder: FileArrays(folder).create("rows", ROWS.shape, ROWS.dtype),
        ragged,
        lambda folder: save_array(folder / "rows.npy", ROWS),
    ],
)
def test_a_full_disk_is_named(fill: Any, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with (
        largest_file(1 << 20),
        pytest.raises(PollinateError, match=r"can't be written: File too large; .*data\.cache="),
    ):
        cache.get("kind", ["key"], fill)
    assert [path.suffix for path in tmp_path.glob("kind/*")] == [".lock"]
    cache.get("kind", ["key"], fill)


def test_a_place_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PollinateError, match=r"file can't be written: .*; choose another place"):
        Cache(tmp_path / "file").get("kind", ["key"], lambda _: None)


def test_room_is_taken_before_an_array_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(PollinateError, match="No space left on device; choose another place"):
        ImageModality([8, 8]).prepare_cached(np.zeros((3, 8, 8), np.uint8), Cache(tmp_path), "key")


def test_where_room_can_not_be_asked_for_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    array = FileArrays(tmp_path).create("rows", (1 << 16,), np.int64)
    assert not array.any()
    assert len(array) == 1 << 16
    path = tmp_path / "rows.npy"
    assert path.stat().st_blocks * 512 >= 8 << 16
    assert np.load(path).shape == array.shape
    with path.open("r+b") as file, largest_file(1 << 10), pytest.raises(OSError, match="too large"):
        reserve(file, 0, 1 << 20)


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    for array in (ROWS + 1, np.arange(3), np.zeros((0, 4)), np.array(5.0)):
        save_array(tmp_path / "rows.npy", array)
        found = np.load(tmp_path / "rows.npy")
        assert found.dtype == array.dtype
        assert np.array_equal(found, array)
