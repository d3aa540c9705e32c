"""One vector a cell of the picture's grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_modules.features import Features
from lightning_modules.views.base import Seen, View
from pipeline.errors import UsageError

IMAGE = "image"


class GridView(View):
    """The encoder's grid of each picture; the trunk takes every cell as a row of its own."""

    reads_tokens_of = (IMAGE,)

    def groups(self, seen: Seen) -> dict[str, Features]:
        """Return the features of all pictures' cells: (N_image H' W', D)."""
        return {"cells": Features(grid(seen).permute(0, 2, 3, 1).flatten(0, 2))}

    def output(self, head: nn.Module, rows: Tensor, seen: Sequence[Seen]) -> Tensor:
        """Return (N, ..., H', W'), 0 for a row without a picture.

        Args:
            head: takes the cells as pictures (N, D, H', W').
            rows: what the trunk made of all cells, picture by picture.
            seen: the data sets.
        """
        tables, start = [], 0
        for one in seen:
            count, _, height, width = grid(one).shape
            stop = start + count * height * width
            cells = rows[start:stop].reshape(count, height, width, rows.shape[1])
            found = head(cells.permute(0, 3, 1, 2))
            has = one.batch.has.get(IMAGE)
            if has is not None:
                full = found.new_zeros((one.size, *found.shape[1:]))
                found = full.index_put((has.nonzero()[:, 0],), found)
            tables.append(found)
            start = stop
        return torch.cat(tables)


def grid(seen: Seen) -> Tensor:
    """Return the pictures' features by cell: (N_image, D, H', W').

    Raises:
        UsageError: the encoder gives none.
    """
    found = seen.by_modality[IMAGE].grid
    if found is None:
        raise UsageError(
            "encoder.image gives no grid of cells, which tasks that label pixels need; choose "
            "another, such as encoder/image=cnn, or a convolutional or vision transformer of "
            "encoder/image=timm"
        )
    return found
