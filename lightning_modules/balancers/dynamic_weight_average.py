"""Dynamic weight average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import LossBalancer
from pollinate.errors import UsageError


class DynamicWeightAverage(LossBalancer):
    """w = T softmax(r / temperature), r_t = L_t(e - 1) / L_t(e - 2): who learns slowly counts more.

    L_t(e) is a task's mean loss over the steps of epoch e; in the first two epochs, and for a
    task that one of them lacked, r_t = 1. Source: Liu et al. 2019, "End-to-End Multi-Task
    Learning with Attention", equation 7.

    Args:
        tasks: names of all tasks of the run.
        temperature: > 0; large values come close to equal weighting.

    Examples:
        >>> import torch, pollinate as po
        >>> balancer = po.balancers.DynamicWeightAverage(["mood", "stars"], temperature=1.0)
        >>> for epoch, mood in enumerate([1.0, 0.5]):  # mood learns, stars stands still
        ...     balancer.begin_epoch(epoch)
        ...     balancer.observe({"mood": torch.tensor(mood), "stars": torch.tensor(1.0)}, True)
        >>> balancer.begin_epoch(2)
        >>> balancer.weights(torch.tensor([0.5, 1.0]), ["mood", "stars"])
        tensor([0.7551, 1.2449])
    """

    epoch: Tensor
    means: Tensor
    sums: Tensor
    counts: Tensor

    def __init__(self, tasks: Sequence[str], temperature: float = 2.0) -> None:
        super().__init__(tasks)
        if not temperature > 0:
            raise UsageError(f"balancer.temperature must be > 0, got {temperature}")
        self.temperature = temperature
        count = len(tasks)
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))
        # of epochs e - 2 and e - 1; NaN where a task had no loss
        self.register_buffer("means", torch.full((2, count), torch.nan, dtype=torch.float64))
        self.register_buffer("sums", torch.zeros(count, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(count, dtype=torch.float64))

    def weights(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        ratios = torch.nan_to_num(self.means[1] / self.means[0], 1.0, 1.0, 1.0)
        present = ratios[[self.tasks.index(task) for task in tasks]]
        return torch.softmax(present / self.temperature, dim=0).to(losses) * len(tasks)

    def begin_epoch(self, epoch: int) -> None:
        """Close the epoch before, at the first call for a new one."""
        if epoch > int(self.epoch):
            self.means.copy_(torch.stack([self.means[1], self.sums / self.counts]))
            self.sums.zero_()
            self.counts.zero_()
            self.epoch.fill_(epoch)

    def observe(self, losses: Mapping[str, Tensor], is_accumulation_end: bool) -> None:
        for task, loss in losses.items():
            number = self.tasks.index(task)
            self.sums[number] += loss.double()
            self.counts[number] += 1
