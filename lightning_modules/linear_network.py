"""A linear model of each task: no encoder, no trunk, nothing that is trained by gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from datamodules.batch import Batch
from datamodules.features import Features
from lightning_modules.descriptors import DESCRIPTORS
from lightning_modules.task_network import TaskNetwork
from lightning_modules.tasks.base import Task
from lightning_modules.trunks.base import Routes
from lightning_modules.views import TEXT, EncodedDataset
from lightning_modules.wide_path import FittedBuffers, WidePath


class DescriptorModel(FittedBuffers):
    """Sum_j (min(max(d_j, low_j), high_j) - mean_j) rate_j W_j, d the descriptors of a modality."""

    fitted_names = ("mean", "rate", "low", "high", "table")
    mean: Tensor  # (D,)
    rate: Tensor  # (D,), 0 for a descriptor that is the same in all rows
    low: Tensor  # (D,), the least of the training rows; high: (D,), the most
    high: Tensor
    table: Tensor  # (D, K), W

    def __init__(self) -> None:
        super().__init__()
        for name in ("mean", "rate", "low", "high"):
            self.register_buffer(name, torch.zeros(0))
        self.register_buffer("table", torch.zeros(0, 0))

    def forward(self, descriptors: Tensor) -> Tensor:
        """Return what descriptors (N, D) add to the columns: (N, K)."""
        found: Tensor = self.values(descriptors) @ self.table
        return found

    def values(self, descriptors: Tensor) -> Tensor:
        """Return what W is multiplied by, of descriptors (N, D): (N, D)."""
        near = descriptors.clamp(self.low, self.high)
        return ((near - self.mean) * self.rate).to(self.table)


class LinearModel(nn.Module):
    """o + s (f(b + sum_j x_j W_j) - o), x the terms and descriptors of a row, o a neutral output.

    f is ``Task.linear_output``. s changes no answer to a class: it makes margins probabilities.

    Args:
        name: of the task.
        task: the task.
        modalities: that its rows may have.
    """

    def __init__(self, name: str, task: Task, modalities: Sequence[str]) -> None:
        super().__init__()
        self.task = task
        self.words = WidePath(name, task.linear_output)  # with b and s, also where there are none
        own = sorted(modality for modality in modalities if modality != TEXT)
        self.described = nn.ModuleDict({modality: DescriptorModel() for modality in own})

    def forward(self, encoded: Sequence[EncodedDataset]) -> Tensor:
        """Return the task's output of its data sets' rows: (N, ...)."""
        columns = torch.cat([self.columns(one) for one in encoded])
        neutral = self.task.neutral
        shift = self.task.linear_output(columns.double()) - neutral
        found: Tensor = (neutral + self.words.scale * shift).to(columns.dtype)
        return found

    def columns(self, encoded: EncodedDataset) -> Tensor:
        """Return predicted columns of a data set's rows: (N, K)."""
        found = self.words.read(encoded.batch)
        for modality, part in self.described.items():
            model = cast("DescriptorModel", part)
            if modality in encoded.by_modality and len(model.table):  # else no labelled row had it
                own = model(encoded.by_modality[modality].pooled)
                has = encoded.batch.has.get(modality)
                if has is not None:
                    own = own.new_zeros(found.shape).masked_scatter(has[:, None], own)
                found = found + own
        return found


class LinearNetwork(TaskNetwork):
    """Predicts each task by a linear model of its own.

    Args:
        tasks: {name: task}.
        routes: {task: data sets}.
        inputs: {data set: modalities}.
    """

    def __init__(
        self, tasks: Mapping[str, Task], routes: Routes, inputs: Mapping[str, Sequence[str]]
    ) -> None:
        super().__init__(routes)
        self.inputs = {name: tuple(modalities) for name, modalities in inputs.items()}
        self.models = nn.ModuleDict()
        for name, task in tasks.items():
            read = sorted({m for dataset in routes[name] for m in inputs[dataset]})
            self.models[name] = LinearModel(name, task, read)

    def of_task(self, name: str) -> LinearModel:
        """Return the model of a task."""
        return cast("LinearModel", self.models[name])

    def modalities(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for own in self.inputs.values() for name in own))

    def encode(self, batches: Mapping[str, Batch], routes: Routes) -> dict[str, EncodedDataset]:
        """Compute the descriptors of rows; terms of texts come with them."""
        batches = self.as_read(batches)
        wanted = {name for names in routes.values() for name in names}
        found = {}
        for name in (name for name in batches if name in wanted):
            batch = batches[name]
            nothing = Features(torch.zeros(len(batch.index), 0, device=batch.index.device))
            described = {
                modality: Features(DESCRIPTORS[modality](values))
                for modality, values in batch.inputs.items()
                if modality in DESCRIPTORS and len(values)
            }
            found[name] = EncodedDataset(nothing, described, batch)
        return found

    def predict(self, encoded: Mapping[str, EncodedDataset], routes: Routes) -> dict[str, Tensor]:
        rows = {task: [encoded[n] for n in names if n in encoded] for task, names in routes.items()}
        return {task: self.models[task](own) for task, own in rows.items() if own}
