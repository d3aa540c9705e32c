"""In which order tasks meet each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from lightning_modules.balancers.draws import Draws


class RandomOrder(nn.Module):
    """A random order of all tasks for each task, drawn anew for each step.

    Args:
        tasks: names of all tasks of the run.
        seed: of the run.
    """

    def __init__(self, tasks: Sequence[str], seed: int) -> None:
        super().__init__()
        self.tasks = sorted(tasks)  # the draws belong to names, whatever their order
        self.draws = Draws(seed)

    def next(self, tasks: Sequence[str]) -> list[list[int]]:
        """Return for each of the present tasks the positions of all of them, in its order."""
        keys = torch.rand(len(self.tasks), len(self.tasks), generator=self.draws.generator())
        self.draws.advance()
        numbers = [self.tasks.index(task) for task in tasks]
        orders: list[list[int]] = keys[numbers][:, numbers].argsort(dim=1).tolist()
        return orders
