"""Equal weighting."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lightning_modules.balancers.base import LossBalancer


class Equal(LossBalancer):
    """w_t = 1: the objective is the sum of the losses.

    A sum and not a mean, so that a task's gradient doesn't depend on how many other tasks the
    step happens to have.

    Examples:
        >>> import torch, pollinate as po
        >>> balancer = po.balancers.Equal(["mood", "stars"])
        >>> balancer.objective({"mood": torch.tensor(2.0), "stars": torch.tensor(8.0)})
        tensor(10.)
    """

    def weights(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        return losses.new_ones(len(tasks))
