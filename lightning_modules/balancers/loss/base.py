"""Balancers that weigh the losses: one plain backward."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import Balancer
from lightning_modules.balancers.gradient.shared import Shared


class LossBalancer(Balancer):
    """Weighs losses: objective = sum_t w_t L_t + penalty, over the step's tasks."""

    @abstractmethod
    def weights(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return the weights: (P,).

        Args:
            losses: (P,) losses of the present tasks, detached.
            tasks: (P,) their names, in the same order.
        """

    def penalty(self, tasks: Sequence[str]) -> Tensor | None:
        """Return a scalar added to the weighted sum, or None."""
        return None

    def observe(self, losses: Mapping[str, Tensor], last: bool) -> None:
        """Take note of losses, detached, after their backward; ``last``: an optimizer step follows.

        A state that weights depend on moves here and nowhere else.
        """

    def objective(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return sum_t w_t L_t plus the penalty."""
        tasks = list(losses)
        values = torch.stack([losses[task] for task in tasks])
        total = (self.weights(values.detach(), tasks) * values).sum()
        penalty = self.penalty(tasks)
        return total if penalty is None else total + penalty

    def task_weights(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """Return w by task."""
        if not losses:  # of a step without any label
            return {}
        values = torch.stack([loss.detach() for loss in losses.values()])
        return dict(zip(losses, self.weights(values, list(losses)).tolist(), strict=True))

    def backward(
        self,
        losses: Mapping[str, Tensor],
        shared: Shared | None = None,
        *,
        objective: Tensor | None = None,
        rest: Tensor | None = None,
        last: bool = True,
    ) -> None:
        """Add the gradient of the objective; what is shared does not matter."""
        if objective is None:
            objective = self.objective(losses)
            objective = objective if rest is None else objective + rest
        objective.backward()  # type: ignore[no-untyped-call]  # torch's is not annotated
        self.observe({task: loss.detach() for task, loss in losses.items()}, last)
