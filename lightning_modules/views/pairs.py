"""Two vectors a row, one of each of two modalities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_modules.features import Features
from lightning_modules.views.base import Seen, View


class PairView(View):
    """The rows' features by each of two modalities, before they are fused.

    Args:
        modalities: the two, in the order of the output.
    """

    def __init__(self, modalities: Sequence[str]) -> None:
        self.modalities = tuple(modalities)

    def groups(self, seen: Seen) -> dict[str, Features]:
        """Return each modality's features of N_m rows."""
        return {name: seen.by_modality[name] for name in self.modalities}

    def output(self, head: nn.Module, rows: Tensor, seen: Sequence[Seen]) -> Tensor:
        """Return (N, 2, E), 0 where a row lacks the modality.

        Args:
            head: takes the rows of one modality and the modality's place.
            rows: for each data set the rows of the first, then of the second modality.
            seen: the data sets.
        """
        tables, start = [], 0
        for one in seen:
            sides = []
            for side, name in enumerate(self.modalities):
                stop = start + len(one.by_modality[name].pooled)
                found = head(rows[start:stop], side)
                has = one.batch.has.get(name)
                if has is not None:
                    full = found.new_zeros((one.size, found.shape[-1]))
                    found = full.masked_scatter(has[:, None], found)
                sides.append(found)
                start = stop
            tables.append(torch.stack(sides, dim=1))
        return torch.cat(tables)
