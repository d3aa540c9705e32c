"""A frozen model that looks at the rows of a run's steps, and is no part of the run's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from datamodules.batch import Batch
from lightning_modules.network import MultiTaskNetwork, combination, encode
from lightning_modules.trace import Trace
from lightning_modules.transfer.library import library_network
from lightning_modules.transfer.preparing import require_inputs, require_same_rows
from lightning_modules.trunks.base import Routes
from pipeline.configuration.suggest import hint, listing
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from datamodules.mixed import MixedDataModule
    from lightning_modules.features import Features
    from lightning_modules.multitask import MultiTaskModule
    from lightning_modules.transfer.source import Source


@dataclass(frozen=True)
class Taught:
    """What a teacher made of a step's rows; nothing of it has a gradient.

    outputs: {task of the teacher: (N, ...)}, rows of the data sets in the order of its route.
    representations: {task of the teacher: what its head read, (N, D)}.
    """

    outputs: Mapping[str, Tensor]
    representations: Mapping[str, Tensor]


class Teacher:
    """A source's network, in evaluation mode for good.

    It is no ``nn.Module``: one that holds it doesn't train it, move it, save it, or wake its
    dropout. It follows the rows to their device, and keeps its weights' own type.

    Args:
        source: a run of this project, or another library's model, which has no tasks.
    """

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self.network: MultiTaskNetwork
        self.modalities: Mapping[str, Any] | None = None  # of a run of this project
        if source.spec is None:
            self.network = library_network(source)
        else:
            predictor = source.predictor()
            self.network, self.modalities = predictor.network, predictor.modalities
        self.network.eval().requires_grad_(False)
        self._device: torch.device | None = None

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        """Return itself: nothing of it changes."""
        return self

    def require_encoder(
        self, modality: str, module: MultiTaskModule, datamodule: MixedDataModule
    ) -> None:
        """Check that it can encode this run's rows of a modality.

        Raises:
            UsageError: it has no such encoder, or rows are prepared otherwise here.
        """
        if modality not in self.network.encoders:
            known = listing(self.network.encoders)
            raise UsageError(f"{self.name} doesn't read {modality}; it reads {known}")
        if modality in self.network.adapted():
            raise UsageError(
                f"the encoder of {modality} of {self.name} has adapters of each task's own; write "
                f"it with one task's in its weights: python -m pipeline.export checkpoint="
                f"{self.name} modality={modality} merge=true task=TASK output=FOLDER"
            )
        require_inputs(modality, module, self.name)
        require_same_rows(modality, self.modalities, self.network, datamodule, self.name)

    def require_task(
        self, task: str, datasets: Sequence[str], module: MultiTaskModule, data: MixedDataModule
    ) -> None:
        """Check that it can do one of its tasks on rows of this run's data sets.

        Raises:
            UsageError: it has no such task, or doesn't read such rows.
        """
        if task not in self.network.heads:
            known = hint(task, self.network.heads, "its tasks")
            raise UsageError(f"{self.name} has no task {task!r}{known}")
        for name in datasets:
            inputs = tuple(data.datasets[name].inputs)
            lacking = [m for m in inputs if m not in self.network.encoders]
            if lacking or (len(inputs) > 1 and combination(inputs) not in self.network.fusions):
                raise UsageError(
                    f"{self.name} doesn't read {' and '.join(lacking or inputs)} together as the "
                    f"data set {name} has them; choose a source that was trained on such rows"
                )
            for modality in inputs:
                require_inputs(modality, module, self.name)
                require_same_rows(modality, self.modalities, self.network, data, self.name)

    def features(self, modality: str, batches: Mapping[str, Batch]) -> dict[str, Features]:
        """Return what its encoder makes of the rows of all data sets that have the modality."""
        given = {n: self._own(b) for n, b in batches.items() if modality in b.modalities}
        if not given:
            return {}
        with torch.no_grad():
            found = encode(self.network.encoder(modality), modality, list(given.values()))
        return dict(zip(given, found, strict=True))

    def look(self, batches: Mapping[str, Batch], routes: Routes) -> Taught:
        """Return what it answers, and what its heads read.

        Args:
            batches: {data set of this run: rows}.
            routes: {task of the teacher: data sets of this run}; those without rows are left out.
        """
        wanted = {name for names in routes.values() for name in names}
        given = {name: self._own(rows) for name, rows in batches.items() if name in wanted}
        trace = Trace()
        if not given:
            return Taught({}, {})
        with torch.no_grad():
            outputs = self.network.predict(self.network.encode(given, routes), routes, trace=trace)
        return Taught(outputs, trace.representations)

    def _own(self, batch: Batch) -> Batch:
        """Return rows in the type of its weights, which then are on the rows' device."""
        if batch.index.device != self._device:
            self._device = batch.index.device
            self.network.to(self._device)
        kind = next((w.dtype for w in self.network.parameters()), torch.float32)
        return replace(
            batch,
            inputs={
                name: rows.to(kind) if rows.is_floating_point() else rows
                for name, rows in batch.inputs.items()
            },
        )
