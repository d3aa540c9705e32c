"""Random numbers that are a function of seed and step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class StepGenerator(nn.Module):
    """A generator for each step: alike on all processes, and after a resume.

    Args:
        seed: of the run.
    """

    step: Tensor

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def generator(self, device: str | torch.device = "cpu") -> torch.Generator:
        """Return the step's generator."""
        mixed = (self.seed * 0x9E3779B97F4A7C15 + int(self.step) * 0xBF58476D1CE4E5B9) % 2**63
        return torch.Generator(device).manual_seed(mixed)

    def normal(self, all_tasks: Sequence[str], tasks: Sequence[str]) -> Tensor:
        """Return a normal number for each of ``tasks``, whatever their order: float64."""
        ordered = sorted(all_tasks)
        drawn = torch.randn(len(ordered), generator=self.generator(), dtype=torch.float64)
        return drawn[[ordered.index(task) for task in tasks]]

    def advance(self) -> None:
        """Go on to the next step."""
        self.step += 1


class RandomOrder(nn.Module):
    """A random order of all tasks for each task, drawn anew for each step.

    Args:
        tasks: names of all tasks of the run.
        seed: of the run.
    """

    def __init__(self, tasks: Sequence[str], seed: int) -> None:
        super().__init__()
        self.tasks = sorted(tasks)  # the draws belong to names, whatever their order
        self.draws = StepGenerator(seed)

    def next(self, tasks: Sequence[str]) -> list[list[int]]:
        """Return for each of the present tasks the positions of all of them, in its order."""
        keys = torch.rand(len(self.tasks), len(self.tasks), generator=self.draws.generator())
        self.draws.advance()
        numbers = [self.tasks.index(task) for task in tasks]
        orders: list[list[int]] = keys[numbers][:, numbers].argsort(dim=1).tolist()
        return orders
