"""A shared layer with three heads, and a balancer with given weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.gradient_base import GramianBalancer
from lightning_modules.balancers.shared_gradients import (
    FeatureGradients,
    ParameterGradients,
    SharedGradients,
    accumulate_grad,
)

TASKS = ("a", "b", "c")
WEIGHTS = {"a": 0.5, "b": 2.0, "c": 0.0}
levels = pytest.mark.parametrize("level", ["features", "parameters"])
Read = Callable[[str, Tensor], Tensor]


class Chosen(GramianBalancer):
    """Weights given by the test."""

    def __init__(
        self,
        tasks: Sequence[str] = TASKS,
        losses: LossBalancer | None = None,
        weight: dict[str, float] | None = None,
    ) -> None:
        super().__init__(tasks, losses=losses)
        self.weight = weight or WEIGHTS
        self.calls: list[tuple[Tensor, Tensor, list[str]]] = []

    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        self.calls.append((gramian, losses, list(tasks)))
        return torch.tensor([self.weight[task] for task in tasks], dtype=torch.float64)


class Tiny(nn.Module):
    """A shared layer and three heads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.shared = nn.Sequential(nn.Linear(4, 6), nn.Tanh())
        self.heads = nn.ModuleDict({task: nn.Linear(6, 1) for task in TASKS})

    def losses(
        self, rows: Tensor, read: Read = lambda _, z: z, tasks: Sequence[str] = TASKS
    ) -> dict[str, Tensor]:
        features = self.shared(rows)
        targets = torch.arange(len(rows)).to(rows)[:, None]
        return {
            task: mse_loss(self.heads[task](read(task, features)), number * targets)
            for number, task in enumerate(TASKS, 1)
            if task in tasks
        }

    def engine(self, level: str) -> tuple[SharedGradients, Read]:
        """What is shared, and what heads read."""
        if level == "features":
            cut = FeatureGradients()
            return cut, cut
        return ParameterGradients(self.shared.parameters()), lambda _, z: z

    def gradients(self) -> dict[str, Tensor]:
        return {n: p.grad.clone() for n, p in self.named_parameters() if p.grad is not None}


def rows(count: int = 5, seed: int = 1) -> Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


def expected(
    data: Sequence[Tensor], weights: dict[str, float], tasks: Sequence[str] = TASKS
) -> dict[str, Tensor]:
    """Gradients of sum_t w_t L_t in the shared part, and of L_t in the heads."""
    net = Tiny()
    for one in data:
        for task, loss in net.losses(one, tasks=tasks).items():
            shared = list(net.shared.parameters())
            own = list(net.heads[task].parameters())
            found = torch.autograd.grad(loss, [*shared, *own], retain_graph=True)
            factors = [weights[task]] * len(shared) + [1.0] * len(own)
            accumulate_grad([*shared, *own], [f * g for f, g in zip(factors, found, strict=True)])
    return net.gradients()


def same(found: dict[str, Tensor], other: dict[str, Tensor], atol: float = 1e-6) -> None:
    assert found.keys() == other.keys()
    for name, gradient in found.items():
        assert torch.allclose(gradient, other[name], rtol=1e-5, atol=atol), name
