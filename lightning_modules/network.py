"""Encoders, trunk and heads: rows in, every task's output out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from datamodules.batch import Batch
from lightning_modules.encoders.base import Encoder
from lightning_modules.features import Features
from lightning_modules.trunks.base import Routes, Trunk


class MultiTaskNetwork(nn.Module):
    """One model for all tasks.

    Args:
        encoders: {modality: its encoder}.
        trunk: how the tasks share.
        heads: {task: output layer}.
        routes: {task: data sets whose rows it is predicted from}.
    """

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        trunk: Trunk,
        heads: Mapping[str, nn.Module],
        routes: Routes,
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(dict(encoders))
        self.trunk = trunk
        self.heads = nn.ModuleDict(dict(heads))
        self.routes = {task: tuple(names) for task, names in routes.items()}

    def forward(
        self, batches: Mapping[str, Batch], tasks: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Predict.

        Args:
            batches: {data set: rows}.
            tasks: the tasks wanted; None: every task that a data set in ``batches`` is for.

        Returns:
            {task: (N, ...)}, rows of the task's data sets in the order of its route.
        """
        wanted = self.heads if tasks is None else tasks
        routes = {task: self.routes[task] for task in wanted}
        representations = self.trunk(self.encode(batches), routes)
        return {task: self.heads[task](rows) for task, rows in representations.items()}

    def encode(self, batches: Mapping[str, Batch]) -> dict[str, Features]:
        """Encode all rows of a modality in one call, then part them by data set again."""
        features: dict[str, Features] = {}
        for modality, encoder in self.encoders.items():
            names = [name for name, batch in batches.items() if modality in batch.inputs]
            if names:
                inputs = [batches[name].inputs[modality] for name in names]
                encoded = encoder(join(inputs))
                features |= zip(names, part(encoded, [len(rows) for rows in inputs]), strict=True)
        return {name: features[name] for name in batches}

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that several tasks' gradients reach."""
        yield from self.encoders.parameters()
        yield from self.trunk.shared_parameters()


def join(inputs: Sequence[Tensor]) -> Tensor:
    """Concatenate the rows of several data sets: (N_i, ...) -> (sum N_i, ...).

    Token ids (N_i, L_i) are padded with 0 to the longest.
    """
    if len(inputs) == 1:
        return inputs[0]
    if inputs[0].dim() == 2:
        longest = max(rows.shape[1] for rows in inputs)
        inputs = [functional.pad(rows, (0, longest - rows.shape[1])) for rows in inputs]
    return torch.cat(list(inputs))


def part(features: Features, sizes: Sequence[int]) -> list[Features]:
    """Undo ``join``: features of sum(sizes) rows -> one Features a size."""

    def split(rows: Tensor | None) -> Sequence[Tensor | None]:
        return [None] * len(sizes) if rows is None else torch.split(rows, list(sizes))

    pooled = torch.split(features.pooled, list(sizes))
    rest = map(split, (features.sequence, features.grid, features.mask))
    return [Features(*parts) for parts in zip(pooled, *rest, strict=True)]
