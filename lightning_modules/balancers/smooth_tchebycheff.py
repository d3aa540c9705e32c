"""Smooth Tchebycheff scalarization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import Scalarization, task_preferences
from pollinate.errors import UsageError


class SmoothTchebycheff(Scalarization):
    """s = P mu log sum_t exp(p_t y_t / mu), which nears P max_t p_t y_t as mu -> 0.

    y_t = (L_t - z_t) / n_t, with nadir n_t = 1 unless given, or with ``log`` its logarithm.
    w_t = P p_t softmax_t(p y / mu) dy_t / dL_t: the task that lies farthest behind counts most.

    ``log`` is the recipe for tasks whose losses have different scales: in the first ``warmup``
    epochs s = sum_t log(L_t - z_t), and n_t is the mean of L_t - z_t in the last of them. After
    that, s counts relative progress. A task that this epoch lacked starts with its first loss.

    Source: Lin et al. 2024, "Smooth Tchebycheff Scalarization for Multi-Objective Optimization",
    recipe and factor P, the number of tasks, as in the authors' code of their multi-task
    experiments, which ends the warm-up after 4 epochs and one that measures.

    Args:
        tasks: names of all tasks of the run.
        mu: > 0; small values follow the worst task alone, large weighs by preference alone.
        preference: {task: p_t > 0}; 1 for a task that is not named.
        ideal: {task: z_t}, the loss that a task could reach; 0 for one that is not named.
        nadir: {task: n_t > 0}, by how much a bad loss lies above z_t; 1, or with ``log`` measured,
            for one that is not named.
        log: whether y_t is a logarithm, after a warm-up.
        warmup: >= 1, epochs; without ``log`` there is none.

    Examples:
        >>> import torch, pollinate as po
        >>> balancer = po.balancers.SmoothTchebycheff(["mood", "stars"], mu=0.5)
        >>> losses = torch.tensor([2.0, 3.0], requires_grad=True)
        >>> balancer.backward({"mood": losses[0], "stars": losses[1]})
        >>> losses.grad  # each task's weight: the worse one counts most
        tensor([0.2384, 1.7616])
    """

    epoch: Tensor
    sums: Tensor
    counts: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        mu: float = 1.0,
        preference: Mapping[str, float] | None = None,
        ideal: Mapping[str, float] | None = None,
        nadir: Mapping[str, float] | None = None,
        log: bool = False,
        warmup: int = 5,
    ) -> None:
        super().__init__(tasks)
        if not mu > 0:
            raise UsageError(f"balancer.mu must be > 0, got {mu}")
        if warmup < 1:
            raise UsageError(f"balancer.warmup must be >= 1 epoch, got {warmup}")
        self.mu, self.log, self.warmup = mu, log, warmup
        self.preference = task_preferences("preference", tasks, preference or {}, 1.0, 0.0)
        self.ideal = task_preferences("ideal", tasks, ideal or {}, 0.0, float("-inf"))
        self.nadir = task_preferences("nadir", tasks, nadir or {}, 1.0, 0.0)
        self.measured = [log and task not in (nadir or {}) for task in tasks]
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))
        # of L - z, over the steps that measure the nadir
        self.register_buffer("sums", torch.zeros(len(tasks), dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(len(tasks), dtype=torch.float64))

    def scalarize(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        above = losses - losses.new_tensor([self.ideal[task] for task in tasks])
        if self.log:
            above = above.clamp(min=torch.finfo(losses.dtype).tiny)
            if self._is_warming_up():
                return above.log().sum()
        progress = above / self._nadir(above.detach(), tasks)
        values = progress.log() if self.log else progress
        preference = losses.new_tensor([self.preference[task] for task in tasks])
        smooth: Tensor = torch.logsumexp(preference * values / self.mu, dim=0)
        return len(tasks) * self.mu * smooth

    def begin_epoch(self, epoch: int) -> None:
        self.epoch.fill_(epoch)

    def observe(self, losses: Mapping[str, Tensor], is_accumulation_end: bool) -> None:
        if not self.log or int(self.epoch) < self.warmup - 1:
            return
        for task, loss in losses.items():
            number = self.tasks.index(task)
            if self._is_warming_up() or self.counts[number] == 0:
                self.sums[number] += (loss - self.ideal[task]).double()
                self.counts[number] += 1

    def _is_warming_up(self) -> bool:
        return any(self.measured) and int(self.epoch) < self.warmup

    def _nadir(self, above: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return n, for a task that is still unknown its present L - z: (P,)."""
        given = above.new_tensor([self.nadir[task] for task in tasks])
        numbers = [self.tasks.index(task) for task in tasks]
        means = (self.sums / self.counts)[numbers].to(above)
        found = torch.where(means > 0, means, above)  # NaN where nothing was counted
        measured = torch.tensor([self.measured[n] for n in numbers], device=above.device)
        return torch.where(measured, found, given)
