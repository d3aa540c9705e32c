"""Several transfer methods in one run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from datamodules.batch import MixedBatch
from lightning_modules.transfer.base import (
    SourceProvider,
    Transfer,
    TransferLosses,
    TransferReporter,
    TransferStep,
)
from lightning_modules.transfer.fork_merge import ForkMerge
from pollinate.errors import UsageError

if TYPE_CHECKING:
    from datamodules.mixed_datamodule import MixedDataModule
    from lightning_modules.module import MultiTaskModule


class Several(Transfer):
    """Methods one after the other: what they add to the losses is added up.

    Factors on the loss of a task's labels are multiplied.

    Args:
        methods: {name: method}, in the order in which they set the run up.

    Raises:
        UsageError: there are none, or several that fork and merge.
    """

    def __init__(self, methods: Mapping[str, Transfer]) -> None:
        super().__init__()
        if not methods:
            raise UsageError(
                "transfer.methods must name methods, got none: transfer.methods={start: {name: "
                "init, source: RUN}}"
            )
        self.methods = nn.ModuleDict(dict(methods))
        rounds = [one for one in self.modules() if isinstance(one, ForkMerge)]
        if len(rounds) > 1:
            raise UsageError(
                f"transfer.methods may fork and merge once, got {len(rounds)} of fork_merge: a run "
                "has one kind of rounds; name all transfer.targets in one"
            )

    def setup(
        self, module: MultiTaskModule, datamodule: MixedDataModule, sources: SourceProvider
    ) -> list[str]:
        """Set all up."""
        return [
            f"{name}: {line}"
            for name, method in self._named()
            for line in method.setup(module, datamodule, sources)
        ]

    def prepare(self, device: torch.device, say: Callable[[str], None]) -> None:
        """Prepare all."""
        for _, method in self._named():
            method.prepare(device, say)

    def losses(self, step: TransferStep) -> TransferLosses:
        """Return the sums, and the product of factors on the loss of a task's labels."""
        found = TransferLosses()
        for _, method in self._named():
            added = method.losses(step)
            for task, loss in added.by_task.items():
                known = found.by_task.get(task)
                found.by_task[task] = loss if known is None else known + loss
            for task, factor in added.label_weights.items():
                found.label_weights[task] = found.label_weights.get(task, 1.0) * factor
            rests = [one for one in (found.regularization, added.regularization) if one is not None]
            found.regularization = torch.stack(rests).sum() if rests else None
        return found

    def required_tasks(self, batch: MixedBatch) -> Sequence[str]:
        """Return what any of them wants."""
        return [task for _, method in self._named() for task in method.required_tasks(batch)]

    @property
    def num_branches(self) -> int:
        """The product of all."""
        return math.prod(method.num_branches for _, method in self._named())

    def adopt(self, trainer: Trainer) -> None:
        """Tell all."""
        for _, method in self._named():
            method.adopt(trainer)

    def weight_losses(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Let one after the other weigh them."""
        for _, method in self._named():
            losses = method.weight_losses(losses)
        return dict(losses)

    def callbacks(self, report: TransferReporter) -> list[Callback]:
        """Return those of all."""
        return [one for _, method in self._named() for one in method.callbacks(report)]

    def gauges(self) -> dict[str, float]:
        """Return the numbers of all; one that has been named before gets the method's name, too."""
        found: dict[str, float] = {}
        for name, method in self._named():
            for key, value in method.gauges().items():
                found[key if key not in found else f"{key}/{name}"] = value
        return found

    def _named(self) -> list[tuple[str, Transfer]]:
        return [(name, cast(Transfer, method)) for name, method in self.methods.items()]
