"""Features of rows on disk: written once, then mapped into memory."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from datamodules.arrays import Arrays, RaggedArray
from datamodules.batch import CachedFeatures
from datamodules.features import Features

KIND = "kind"
FeatureRow = dict[str, np.ndarray]  # {pooled, sequence or grid: (length, ...)}


class FeatureTableWriter:
    """Writes rows of features, one after the other, and nothing for rows without.

    Args:
        arrays: where to.
        example: features of some rows, which say what there is.
        whole: whether tokens and cells are kept.
    """

    def __init__(self, arrays: Arrays, example: Features, whole: bool) -> None:
        tables = cached_tensors(example, whole)
        inner = {n: tuple(t.shape[2 if n == "sequence" else 1 :]) for n, t in tables.items()}
        dtype = example.pooled.numpy().dtype
        self.rows = {name: arrays.grow(name, dtype, shape) for name, shape in inner.items()}
        self.nothing = {name: np.empty((0, *shape), dtype) for name, shape in inner.items()}
        masked = example.mask is not None
        arrays.put(KIND, {"names": list(inner), "whole": whole, "masked": masked})

    def append(self, row: FeatureRow | None) -> None:
        """Add a row of ``unpad``; None: one that lacks the modality."""
        for name, rows in self.rows.items():
            rows.append((self.nothing if row is None else row)[name])

    def close(self) -> None:
        for rows in self.rows.values():
            rows.close()


def cached_tensors(features: Features, whole: bool) -> dict[str, Tensor]:
    """Return {name: (N, ...)} of what is kept."""
    extra = {"sequence": features.sequence, "grid": features.grid} if whole else {}
    return {"pooled": features.pooled, **{n: t for n, t in extra.items() if t is not None}}


def unpad(features: Features, whole: bool) -> list[FeatureRow]:
    """Return {name: (length, ...)} of what is kept of each row, without padding."""
    tables, mask = cached_tensors(features, whole), features.mask
    lengths = None if mask is None else mask.sum(dim=1).tolist()
    found: list[FeatureRow] = []
    for place in range(len(features.pooled)):
        row = {name: table[place : place + 1].numpy() for name, table in tables.items()}
        if "sequence" in row:
            row["sequence"] = row["sequence"][0, : None if lengths is None else lengths[place]]
        found.append(row)
    return found


class FeatureTable:
    """The features of a column's rows.

    Args:
        arrays: that a ``FeatureTableWriter`` wrote.
    """

    def __init__(self, arrays: Arrays) -> None:
        kind = arrays.value(KIND)
        self.whole, self.masked = bool(kind["whole"]), bool(kind["masked"])
        self.tables = {name: arrays.get_ragged(name) for name in kind["names"]}

    def rows(self, rows: np.ndarray) -> CachedFeatures:
        """Return the features of rows (n,) that have the modality."""
        features = Features(stack_rows(self.tables["pooled"], rows))
        if "sequence" in self.tables:
            features.sequence, mask = pad_ragged(self.tables["sequence"], rows)
            features.mask = mask if self.masked else None
        if "grid" in self.tables:
            features.grid = stack_rows(self.tables["grid"], rows)
        return CachedFeatures(features, self.whole)


def stack_rows(table: RaggedArray, rows: np.ndarray) -> Tensor:
    """Return rows of length 1: (n, ...)."""
    return torch.from_numpy(np.asarray(table.flat[table.starts[rows]]))


def pad_ragged(table: RaggedArray, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return rows padded with 0 to the longest, (n, L, W), and where they are real, (n, L)."""
    if not len(rows):
        inner = table.flat.shape[1:]
        return torch.from_numpy(np.empty((0, 1, *inner), table.flat.dtype)), torch.ones(0, 1) > 0
    parts = [torch.from_numpy(np.array(table[row])) for row in rows]
    lengths = torch.tensor([len(part) for part in parts])
    real = torch.arange(int(lengths.max())) < lengths[:, None]
    return pad_sequence(parts, batch_first=True), real
