"""Which rows are for training, validation and test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from datamodules.columns import Column, Columns
from pipeline.errors import PollinateError

SPLITS = ("train", "valid", "test")


def split_rows(
    spec: Mapping[str, Any],
    columns: Columns,
    strata: Column,
    seed: int,
) -> dict[str, np.ndarray]:
    """Rows of each split, sorted.

    Args:
        spec: either fractions {train, valid, test} of all rows; or {column: name} of a column
            that holds train, valid and test, where ``valid: f`` or ``test: f`` takes the share f
            of the training rows for a split that the column does not name.
        columns: the data set's columns.
        strata: (N,) a label for each row; each split gets its share of every label.
        seed: of the draw.

    Returns:
        {split: (n,) int64}.

    Raises:
        PollinateError: the column is missing or holds other names.
    """
    everything = np.arange(len(strata))
    if "column" not in spec:
        return _by_fraction(everything, spec, strata, seed)
    rows = _by_column(str(spec["column"]), columns)
    for name in ("test", "valid"):
        if name in spec and not len(rows[name]):
            fractions = {"train": 1.0 - float(spec[name]), name: float(spec[name])}
            rows |= _by_fraction(rows["train"], fractions, strata, seed)
    return rows


def _by_column(column: str, columns: Columns) -> dict[str, np.ndarray]:
    if column not in columns:
        raise PollinateError(
            f"split column {column!r} is not a column of the data; it has {', '.join(columns)}"
        )
    values = np.asarray([str(value) for value in columns[column]])
    unknown = sorted(set(values) - set(SPLITS))
    if unknown:
        raise PollinateError(
            f"split column {column!r} must hold train, valid or test, found {', '.join(unknown)}"
        )
    return {name: np.flatnonzero(values == name) for name in SPLITS}


def _by_fraction(
    rows: np.ndarray, fractions: Mapping[str, float], strata: Column, seed: int
) -> dict[str, np.ndarray]:
    """Deal the rows out, stratum by stratum.

    Within a stratum of n rows the borders are the rounded cumulative shares of n.
    """
    generator = np.random.default_rng(seed)
    labels = np.asarray([str(strata[row]) for row in rows])
    names = [name for name in SPLITS if name in fractions]
    borders = np.cumsum([float(fractions[name]) for name in names])
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for label in np.unique(labels):
        members = generator.permutation(rows[labels == label])
        cuts = np.rint(borders[:-1] * len(members)).astype(int)
        for name, part in zip(names, np.split(members, cuts), strict=True):
            parts[name].append(part)
    return {name: np.sort(np.concatenate(part)) for name, part in parts.items()}
