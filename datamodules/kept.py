"""Features of rows on disk: written once, then mapped into memory."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from datamodules.arrays import Arrays
from datamodules.batch import Kept
from datamodules.ragged import Ragged
from lightning_modules.features import Features

KIND = "kind"
Row = dict[str, np.ndarray]  # {pooled, sequence or grid: (length, ...)}


class KeptWriter:
    """Writes rows of features, one after the other, and nothing for rows without.

    Args:
        arrays: where to.
        example: features of some rows, which say what there is.
        whole: whether tokens and cells are kept.
    """

    def __init__(self, arrays: Arrays, example: Features, whole: bool) -> None:
        tables = kept_of(example, whole)
        inner = {n: tuple(t.shape[2 if n == "sequence" else 1 :]) for n, t in tables.items()}
        dtype = example.pooled.numpy().dtype
        self.rows = {name: arrays.grow(name, dtype, shape) for name, shape in inner.items()}
        self.nothing = {name: np.empty((0, *shape), dtype) for name, shape in inner.items()}
        masked = example.mask is not None
        arrays.put(KIND, {"names": list(inner), "whole": whole, "masked": masked})

    def append(self, row: Row | None) -> None:
        """Add a row of ``parted``; None: one that lacks the modality."""
        for name, rows in self.rows.items():
            rows.append((self.nothing if row is None else row)[name])

    def close(self) -> None:
        """Make them readable."""
        for rows in self.rows.values():
            rows.close()


def kept_of(features: Features, whole: bool) -> dict[str, Tensor]:
    """Return {name: (N, ...)} of what is kept."""
    extra = {"sequence": features.sequence, "grid": features.grid} if whole else {}
    return {"pooled": features.pooled, **{n: t for n, t in extra.items() if t is not None}}


def parted(features: Features, whole: bool) -> list[Row]:
    """Return {name: (length, ...)} of what is kept of each row, without padding."""
    tables, mask = kept_of(features, whole), features.mask
    lengths = None if mask is None else mask.sum(dim=1).tolist()
    found: list[Row] = []
    for place in range(len(features.pooled)):
        row = {name: table[place : place + 1].numpy() for name, table in tables.items()}
        if "sequence" in row:
            row["sequence"] = row["sequence"][0, : None if lengths is None else lengths[place]]
        found.append(row)
    return found


class KeptRows:
    """The features of a column's rows.

    Args:
        arrays: that a ``KeptWriter`` wrote.
    """

    def __init__(self, arrays: Arrays) -> None:
        kind = arrays.value(KIND)
        self.whole, self.masked = bool(kind["whole"]), bool(kind["masked"])
        self.tables = {name: arrays.get_rows(name) for name in kind["names"]}

    def rows(self, rows: np.ndarray) -> Kept:
        """Return the features of rows (n,) that have the modality."""
        features = Features(single(self.tables["pooled"], rows))
        if "sequence" in self.tables:
            features.sequence, mask = padded(self.tables["sequence"], rows)
            features.mask = mask if self.masked else None
        if "grid" in self.tables:
            features.grid = single(self.tables["grid"], rows)
        return Kept(features, self.whole)


def single(table: Ragged, rows: np.ndarray) -> Tensor:
    """Return rows of length 1: (n, ...)."""
    return torch.from_numpy(np.asarray(table.flat[table.starts[rows]]))


def padded(table: Ragged, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return rows padded with 0 to the longest, (n, L, W), and where they are real, (n, L)."""
    if not len(rows):
        inner = table.flat.shape[1:]
        return torch.from_numpy(np.empty((0, 1, *inner), table.flat.dtype)), torch.ones(0, 1) > 0
    parts = [torch.from_numpy(np.array(table[row])) for row in rows]
    lengths = torch.tensor([len(part) for part in parts])
    real = torch.arange(int(lengths.max())) < lengths[:, None]
    return pad_sequence(parts, batch_first=True), real
