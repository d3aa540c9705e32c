"""Random loss weighting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.step_random import StepGenerator


class Random(LossBalancer):
    """w = T softmax(z), z ~ N(0, 1) for each task and step.

    The measure for all others: a method that doesn't beat it has not balanced anything.
    Source: Lin et al. 2022, "Reasonable Effectiveness of Random Weighting" (RLW).

    Args:
        tasks: names of all tasks of the run.
        seed: with the number of the step it gives the same draws on all processes.

    Examples:
        >>> import torch, pollinate as po
        >>> balancer = po.balancers.Random(["mood", "stars"], seed=1)
        >>> losses = {"mood": torch.tensor(2.0), "stars": torch.tensor(8.0)}
        >>> round(sum(balancer.task_weights(losses).values()), 4)
        2.0
    """

    def __init__(self, tasks: Sequence[str], seed: int = 0) -> None:
        super().__init__(tasks)
        self.draws = StepGenerator(seed)

    def weights(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        drawn = self.draws.normal(self.tasks, tasks)
        return torch.softmax(drawn, dim=0).to(losses) * len(tasks)

    def observe(self, losses: Mapping[str, Tensor], is_accumulation_end: bool) -> None:
        if is_accumulation_end:
            self.draws.advance()
