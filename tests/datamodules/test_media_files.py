"""Which files a folder has of pictures and sounds, and what is said of the others."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from datamodules.cache import Cache
from datamodules.media_files import IMAGES, PICTURE_FORMATS, SOUND_FORMATS, SOUNDS, files_below
from datamodules.sources.base import find_files
from datamodules.sources.folder import AudioFolder, ImageFolder
from datamodules.sources.row_files import MediaRows
from pollinate.errors import PollinateError

RUN_BY_OTHERS = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "IPTC", "MCIDAS", "PDF", "PALM"}


def test_every_ending_that_pillow_opens_is_known() -> None:
    Image.init()
    endings = {e: kind for e, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    ours = {e: kind for e, kind in endings.items() if kind not in RUN_BY_OTHERS}
    assert {e for e in ours if e not in IMAGES} == set()
    assert not RUN_BY_OTHERS & PICTURE_FORMATS.keys()
    assert {".avif", ".jfif", ".jp2", ".mpo"} <= IMAGES


def test_every_format_of_libsndfile_is_known() -> None:
    headerless = {"RAW", "SD2"}  # SD2 keeps its header in another file
    others = {"MAT4", "MAT5", "WAVEX"}  # anything may be in a .mat; WAVEX's ending is .wav
    assert set(soundfile.available_formats()) - headerless - others == SOUND_FORMATS.keys()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "cat/1.png",
        "cat/2.AVIF",
        "dog/3.jfif",
        "dog/4.jp2",
        "cat/.ipynb_checkpoints/1-checkpoint.png",
        ".Trash-1000/5.png",
        "__MACOSX/cat/._1.png",
        "cat/Thumbs.db",
        "cat/._2.png",
        "dog/notes.txt",
        "dog/LICENSE",
        "metadata.csv",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "metadata.csv").write_text("file_name,about\ncat/1.png,dog/notes.txt\n")
    os.mkfifo(tmp_path / "dog" / "pipe.png")
    (tmp_path / "dog" / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "linked").symlink_to(tmp_path / "dog")
    return tmp_path


NOTE = (
    "9 files in {} passed over: 5 hidden, 1 linked as folders, 1 of no ordinary kind, 1 that lead "
    "to nothing, 1 without an ending"
)


def test_hidden_files_are_no_rows_and_all_others_are_counted(folder: Path) -> None:
    table = ImageFolder(str(folder)).load(Cache(folder / "cache"))
    assert [path.name for path in table.columns["image"]] == ["1.png", "2.AVIF", "3.jfif", "4.jp2"]
    assert list(table.columns["label"]) == ["cat", "cat", "dog", "dog"]
    assert table.notes == [NOTE.format(folder)]


def test_predicting_takes_the_same_files(folder: Path) -> None:
    source = MediaRows(folder)
    names = [row.values["path"] for row in source.rows()]
    assert names == ["cat/1.png", "cat/2.AVIF", "dog/3.jfif", "dog/4.jp2"]
    assert source.note is not None
    assert "5 hidden" in source.note
    assert "with the ending .txt" in source.note


def test_recordings_of_all_kinds_are_found(tmp_path: Path) -> None:
    samples = np.zeros(800, np.float32)
    for ending in (".wav", ".au", ".caf", ".w64", ".aifc"):
        kind = {".aifc": "AIFF"}.get(ending, ending[1:].upper())
        soundfile.write(tmp_path / f"a{ending}", samples, 8000, format=kind)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "b.wav").touch()
    table = AudioFolder(str(tmp_path)).load(Cache(tmp_path / "cache"))
    assert len(table) == 5
    assert table.notes == [f"1 file in {tmp_path} passed over: 1 hidden"]
    assert {".aifc", ".mp3", ".opus"} <= SOUNDS


def test_a_folder_below_a_hidden_one_is_read(tmp_path: Path) -> None:
    inner = tmp_path / ".data" / "pictures"
    inner.mkdir(parents=True)
    (inner / "1.png").touch()
    assert files_below(inner, IMAGES).files == [inner / "1.png"]


def test_without_any_file_of_the_kind_the_others_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.heic").touch()
    with pytest.raises(PollinateError, match=r"no images or sounds .* 1 with the ending \.heic"):
        MediaRows(tmp_path)


@pytest.mark.parametrize("pattern", ["pipe.csv", "p*.csv"])
def test_a_table_that_is_a_pipe_is_refused(pattern: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(PollinateError, match="must be an ordinary file, it is a named pipe"):
        find_files(str(tmp_path / pattern))
