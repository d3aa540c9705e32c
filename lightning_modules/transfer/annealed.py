"""A method whose weight falls to zero over the run."""

from __future__ import annotations

from lightning_modules.hooks import AddedLosses, TrainingStep
from lightning_modules.transfer.base import Transfer
from lightning_modules.transfer.group import TransferGroup
from pollinate.errors import UsageError


class AnnealedTransfer(TransferGroup):
    """L = (1 - m) L_method + m L_plain, m = steps done / steps, from 0 to 1.

    With ``hinton``, alpha 1 and temperature 1 the targets go from the teachers' answers to the
    labels in a straight line: teacher annealing.

    Args:
        method: whose part falls.
        steps: optimizer steps until it is gone, >= 1; None: all of the run.

    Source: Clark et al. 2019, section 3.2.

    Examples:
        >>> import pollinate as po
        >>> teacher = po.transfer.Hinton("runs/first", alpha=1.0, temperature=1.0)
        >>> transfer = po.transfer.AnnealedTransfer(teacher, steps=4)
        >>> model = po.MultiTaskModule(data, transfer=transfer, sources=po.SourceOpener())
        >>> trainer.fit(model, data)  # for 2 steps
        >>> trainer.callback_metrics["annealed/labels"].item()
        0.25
    """

    def __init__(self, method: Transfer, steps: int | None = None) -> None:
        super().__init__({"method": method})
        if steps is not None and steps < 1:
            raise UsageError(f"steps must be >= 1 or null, got {steps}")
        self.steps = steps
        self._mix = 0.0

    def losses(self, step: TrainingStep) -> AddedLosses:
        """Return the method's part, and its factors on the labels, brought nearer to 1."""
        mix = self._mix = self.mix(step)
        found = super().losses(step)
        return AddedLosses(
            {task: (1 - mix) * loss for task, loss in found.by_task.items()},
            None if found.regularization is None else (1 - mix) * found.regularization,
            {task: (1 - mix) * factor + mix for task, factor in found.label_weights.items()},
        )

    def mix(self, step: TrainingStep) -> float:
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

    def gauges(self) -> dict[str, float]:
        """Return the method's numbers, and ``annealed/labels``: m."""
        return {**super().gauges(), "annealed/labels": self._mix}
