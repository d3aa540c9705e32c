"""A transfer method that consists of others."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from datamodules.batch import MixedBatch
from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.hooks import AddedLosses, HookedModule, HookReporter, TrainingStep
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.source_models import SourceProvider
from lightning_modules.transfer.base import Transfer


class TransferGroup(Transfer):
    """Passes each hook on to its methods, one after the other; subclasses change some of them.

    What methods add to the losses is added up; factors on the loss of a task's labels are
    multiplied.

    Args:
        methods: {name: method}, in the order in which they set the run up.

    Examples:
        >>> import pollinate as po
        >>> start, teacher = po.transfer.Init("runs/first"), po.transfer.Hinton("runs/first")
        >>> transfer = po.transfer.Several({"start": start, "teacher": teacher})
        >>> isinstance(transfer, po.transfer.TransferGroup), list(transfer.named())
        (True, ['start', 'teacher'])
    """

    def __init__(self, methods: Mapping[str, Transfer]) -> None:
        super().__init__()
        self.methods = nn.ModuleDict(dict(methods))

    def named(self) -> dict[str, Transfer]:
        """Return {name: method}."""
        return {name: cast(Transfer, method) for name, method in self.methods.items()}

    def methods_at_work(self) -> dict[str, Transfer]:
        """Return those that take part in the present step."""
        return self.named()

    def setup(
        self, module: HookedModule, datamodule: MixedDataModule, sources: SourceProvider
    ) -> list[str]:
        methods = self.named().values()
        return [line for one in methods for line in one.setup(module, datamodule, sources)]

    def prepare(self, device: torch.device, say: Callable[[str], None]) -> None:
        for method in self.named().values():
            method.prepare(device, say)

    def attach(self, trainer: Trainer) -> None:
        for method in self.named().values():
            method.attach(trainer)

    def callbacks(self, report: HookReporter) -> list[Callback]:
        return [one for method in self.named().values() for one in method.callbacks(report)]

    @property
    def trains_branches(self) -> bool:
        return any(method.trains_branches for method in self.named().values())

    @property
    def changes_network(self) -> bool:
        return any(method.changes_network for method in self.named().values())

    @property
    def num_branches(self) -> int:
        return math.prod(method.num_branches for method in self.named().values())

    def required_tasks(self, batch: MixedBatch) -> Sequence[str]:
        methods = self.methods_at_work().values()
        return [task for method in methods for task in method.required_tasks(batch)]

    def change_batch(
        self, batch: MixedBatch, network: MultiTaskNetwork, steps_done: int
    ) -> MixedBatch:
        for method in self.methods_at_work().values():
            batch = method.change_batch(batch, network, steps_done)
        return batch

    def losses(self, step: TrainingStep) -> AddedLosses:
        """Return the sums, and the product of factors on the loss of a task's labels."""
        found = AddedLosses()
        for method in self.methods_at_work().values():
            added = method.losses(step)
            for task, loss in added.by_task.items():
                known = found.by_task.get(task)
                found.by_task[task] = loss if known is None else known + loss
            for task, factor in added.label_weights.items():
                found.label_weights[task] = found.label_weights.get(task, 1.0) * factor
            rests = [one for one in (found.regularization, added.regularization) if one is not None]
            found.regularization = torch.stack(rests).sum() if rests else None
        return found

    def weight_losses(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        for method in self.methods_at_work().values():
            losses = method.weight_losses(losses)
        return dict(losses)

    def gauges(self) -> dict[str, float]:
        """Return the numbers of all; one that has been named before gets the method's name, too."""
        found: dict[str, float] = {}
        for name, method in self.methods_at_work().items():
            for key, value in method.gauges().items():
                found[key if key not in found else f"{key}/{name}"] = value
        return found
