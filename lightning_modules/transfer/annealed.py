"""A method whose part falls to nothing over the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from datamodules.batch import MixedBatch
from lightning_modules.transfer.base import (
    SourceProvider,
    Transfer,
    TransferLosses,
    TransferReporter,
    TransferStep,
)
from pollinate.errors import UsageError

if TYPE_CHECKING:
    from datamodules.mixed_datamodule import MixedDataModule
    from lightning_modules.module import MultiTaskModule


class AnnealedTransfer(Transfer):
    """L = (1 - m) L_method + m L_plain, m = steps done / steps, from 0 to 1.

    With ``hinton``, alpha 1 and temperature 1 the targets go from the teachers' answers to the
    labels in a straight line: teacher annealing.

    Args:
        method: whose part falls.
        steps: optimizer steps until it is gone, >= 1; None: all of the run.

    Source: Clark et al. 2019, section 3.2.
    """

    def __init__(self, method: Transfer, steps: int | None = None) -> None:
        super().__init__()
        if steps is not None and steps < 1:
            raise UsageError(f"steps must be >= 1 or null, got {steps}")
        self.method = method
        self.steps = steps
        self._mix = 0.0

    def setup(
        self, module: MultiTaskModule, datamodule: MixedDataModule, sources: SourceProvider
    ) -> list[str]:
        """Set the method up."""
        return self.method.setup(module, datamodule, sources)

    def prepare(self, device: torch.device, say: Callable[[str], None]) -> None:
        """Prepare the method."""
        self.method.prepare(device, say)

    def losses(self, step: TransferStep) -> TransferLosses:
        """Return the method's part, and its factors on the labels, brought nearer to 1."""
        mix = self._mix = self.mix(step)
        found = self.method.losses(step)
        return TransferLosses(
            {task: (1 - mix) * loss for task, loss in found.by_task.items()},
            None if found.regularization is None else (1 - mix) * found.regularization,
            {task: (1 - mix) * factor + mix for task, factor in found.label_weights.items()},
        )

    def mix(self, step: TransferStep) -> float:
        """Return m, in [0, 1].

        Raises:
            UsageError: the run has no end.
        """
        total_steps = step.total_steps if self.steps is None else self.steps
        if total_steps is None:
            raise UsageError(
                "transfer.steps must say when the method's part is gone, as the run has no end; or "
                "set trainer.max_steps"
            )
        return min(1.0, step.steps_done / total_steps)

    def required_tasks(self, batch: MixedBatch) -> Sequence[str]:
        """Return what the method wants."""
        return self.method.required_tasks(batch)

    @property
    def num_branches(self) -> int:
        """As many as the method's."""
        return self.method.num_branches

    def adopt(self, trainer: Trainer) -> None:
        """Tell the method."""
        self.method.adopt(trainer)

    def weight_losses(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Let the method weigh them."""
        return self.method.weight_losses(losses)

    def callbacks(self, report: TransferReporter) -> list[Callback]:
        """Return the method's."""
        return self.method.callbacks(report)

    def gauges(self) -> dict[str, float]:
        """Return the method's numbers, and ``annealed/labels``: m."""
        return {**self.method.gauges(), "annealed/labels": self._mix}
