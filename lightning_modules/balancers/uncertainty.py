"""Homoscedastic uncertainty weighting."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_modules.balancers.base import LossBalancer


class Uncertainty(LossBalancer):
    """w_t = exp(-s_t) with penalty sum_t s_t / 2, where s_t = log sigma_t^2 is learnt.

    Source: Kendall, Gal and Cipolla 2018, equation 10 (the classification likelihood), with
    s in place of sigma as in their section 3.2. Each s_t is a parameter of its own, so that a
    task which a step doesn't have gets no gradient; none of them is decayed.

    Args:
        tasks: names of all tasks of the run.
        initial: s_t at the start; 0 starts from equal weighting.

    Examples:
        >>> import torch, pollinate as po
        >>> balancer = po.balancers.Uncertainty(["mood", "stars"])
        >>> optimizer = torch.optim.SGD(balancer.parameters(), lr=0.1)  # s is learnt, too
        >>> losses = {"mood": torch.tensor(0.1), "stars": torch.tensor(4.0)}
        >>> balancer.backward(losses)
        >>> optimizer.step()
        >>> {task: round(weight, 2) for task, weight in balancer.task_weights(losses).items()}
        {'mood': 1.04, 'stars': 0.7}
    """

    def __init__(self, tasks: Sequence[str], initial: float = 0.0) -> None:
        super().__init__(tasks)
        self.log_variance = nn.ParameterDict(
            {task: nn.Parameter(torch.tensor(float(initial))) for task in tasks}
        )

    def weights(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return exp(-s): (P,)."""
        return torch.exp(-self._log_variances(tasks))

    def penalty(self, tasks: Sequence[str]) -> Tensor:
        """Return sum_t s_t / 2."""
        return self._log_variances(tasks).sum() / 2

    def _log_variances(self, tasks: Sequence[str]) -> Tensor:
        return torch.stack([self.log_variance[task] for task in tasks])
