"""Impartial multi-task learning by losses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_modules.balancers.base import LossBalancer


class IMTLL(LossBalancer):
    """w_t = exp(s_t) with penalty -sum_t s_t, where s_t is learnt: at rest all w_t L_t are 1.

    Source: Liu et al. 2021, "Towards Impartial Multi-task Learning", the loss balance (IMTL-L).

    Args:
        tasks: names of all tasks of the run.
        initial: s_t at the start; 0 starts from equal weighting.

    Examples:
        >>> import torch, pollinate as po
        >>> balancer = po.balancers.IMTLL(["mood", "stars"])
        >>> optimizer = torch.optim.SGD(balancer.parameters(), lr=0.1)  # s is learnt, too
        >>> losses = {"mood": torch.tensor(0.5), "stars": torch.tensor(4.0)}
        >>> balancer.backward(losses)
        >>> optimizer.step()
        >>> {task: round(weight, 2) for task, weight in balancer.task_weights(losses).items()}
        {'mood': 1.05, 'stars': 0.74}
    """

    def __init__(self, tasks: Sequence[str], initial: float = 0.0) -> None:
        super().__init__(tasks)
        self.log_weight = nn.ParameterDict(
            {task: nn.Parameter(torch.tensor(float(initial))) for task in tasks}
        )

    def weights(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return exp(s): (P,)."""
        return torch.exp(self._log_weights(tasks))

    def penalty(self, tasks: Sequence[str]) -> Tensor:
        """Return -sum_t s_t."""
        return -self._log_weights(tasks).sum()

    def _log_weights(self, tasks: Sequence[str]) -> Tensor:
        return torch.stack([self.log_weight[task] for task in tasks])
