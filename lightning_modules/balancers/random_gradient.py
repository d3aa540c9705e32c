"""Random weights of the shared gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.gradient_base import GramianBalancer
from lightning_modules.balancers.step_random import StepGenerator


class RandomGradient(GramianBalancer):
    """w = T softmax(z), z ~ N(0, 1) for each task and step: RLW that leaves the heads alone.

    The measure for all others: a method that doesn't beat it has not balanced anything.
    Source: Lin et al. 2022, "Reasonable Effectiveness of Random Weighting".

    Args:
        tasks, level, losses: as for every ``GradientBalancer``.
        seed: with the number of the step it gives the same draws on all processes.

    Examples:
        >>> import torch, pollinate as po
        >>> shared, head = (torch.ones(1, requires_grad=True) for _ in range(2))
        >>> losses = {"mood": 2 * (shared * head).sum(), "stars": shared.sum()}
        >>> po.balancers.RandomGradient(["mood", "stars"]).backward(losses)
        >>> head.grad  # drawn weights don't reach it
        tensor([2.])
    """

    def __init__(
        self,
        tasks: Sequence[str],
        seed: int = 0,
        level: str = "auto",
        losses: LossBalancer | None = None,
    ) -> None:
        super().__init__(tasks, level, losses)
        self.draws = StepGenerator(seed)

    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        drawn = self.draws.normal(self.tasks, tasks)
        self.draws.advance()
        return torch.softmax(drawn, dim=0) * len(tasks)
