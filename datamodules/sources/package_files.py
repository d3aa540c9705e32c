"""Data files inside installed packages, read without importing the package."""

from __future__ import annotations

import lzma
import pickle
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import UsageError

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

    Raises:
        UsageError: the package, or the file in it, isn't there.
    """
    spec = find_spec(package)
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
