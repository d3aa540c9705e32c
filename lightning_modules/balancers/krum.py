"""Multi-Krum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.gradient_base import GramianBalancer
from pollinate.errors import UsageError


class Krum(GramianBalancer):
    """T times the mean of the gradients that lie nearest to their neighbours.

    A task's score is the sum of the distances |g_t - g_s| to its T - outliers - 2 nearest others
    (at least one); the ``selected`` tasks of least score count, the others don't.
    Source: Blanchard et al. 2017, "Machine Learning with Adversaries", section 4, Multi-Krum,
    with the distances themselves in place of their squares, as TorchJD has it.

    Args:
        tasks, level, losses: as for every ``GradientBalancer``.
        outliers: >= 0, tasks whose gradient may be far off.
        selected: >= 1, tasks that count.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(1, requires_grad=True)
        >>> losses = {"mood": shared[0], "stars": 2 * shared[0], "broken": 1000 * shared[0]}
        >>> balancer = po.balancers.Krum(list(losses), outliers=0)
        >>> balancer.backward(losses)
        >>> balancer.task_weights(losses)
        {'mood': 1.5, 'stars': 1.5, 'broken': 0.0}
    """

    def __init__(
        self,
        tasks: Sequence[str],
        outliers: int = 1,
        selected: int = 2,
        level: str = "auto",
        losses: LossBalancer | None = None,
    ) -> None:
        super().__init__(tasks, level, losses)
        if outliers < 0 or selected < 1:
            raise UsageError(
                f"balancer.outliers must be >= 0 and balancer.selected >= 1, got {outliers} and "
                f"{selected}"
            )
        self.outliers, self.selected = outliers, selected

    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        squares = gramian.diagonal()
        distances = (squares[:, None] + squares[None, :] - 2 * gramian).clamp(min=0).sqrt()
        near = min(max(len(tasks) - self.outliers - 2, 1), len(tasks) - 1)
        scores = distances.fill_diagonal_(0).sort(dim=1).values[:, 1 : near + 1].sum(dim=1)
        chosen = scores.argsort(stable=True)[: min(self.selected, len(tasks))]
        weights = torch.zeros_like(squares)
        weights[chosen] = len(tasks) / len(chosen)
        return weights
