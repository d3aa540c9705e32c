"""Fast adaptive multitask optimization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import LossBalancer, task_preferences
from pollinate.errors import UsageError

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class FAMO(LossBalancer):
    """w_t = T z_t / (D_t sum_s z_s / D_s), z = softmax(logits), D_t = L_t - ideal_t.

    After the optimizer step, d_t = log D_t - log D_t(after) tells how much each task gained from
    it; Adam moves the logits along -(dz / dlogits)^T d - decay logits: away from tasks that gain
    more. Source: Liu et al. 2023, "FAMO: Fast Adaptive Multitask Optimization", algorithm 1.

    Needs the same rows' losses once more after the step: one forward without gradient. A loop
    without Lightning calls ``after_step``.

    Args:
        tasks: names of all tasks of the run.
        lr: > 0, of the logits.
        decay: >= 0, of the logits.
        ideal: {task: best loss it could reach}; 0 for a task that isn't named.

    Examples:
        >>> import torch, pollinate as po
        >>> balancer = po.balancers.FAMO(["mood", "stars"])
        >>> losses = torch.tensor([2.0, 8.0], requires_grad=True)
        >>> balancer.backward({"mood": losses[0], "stars": losses[1]})
        >>> losses.grad
        tensor([1.6000, 0.4000])
        >>> after = {"mood": torch.tensor(1.0), "stars": torch.tensor(8.0)}  # mood gained
        >>> balancer.after_step(after)
        >>> balancer.weights(torch.tensor([2.0, 8.0]), ["mood", "stars"])
        tensor([1.5838, 0.4162])
    """

    logits: Tensor
    mean: Tensor
    square: Tensor
    steps: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        lr: float = 0.025,
        decay: float = 0.001,
        ideal: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(tasks)
        if not (lr > 0 and decay >= 0):
            raise UsageError(
                f"balancer.lr must be > 0 and balancer.decay >= 0, got {lr} and {decay}"
            )
        self.lr, self.decay = lr, decay
        self.ideal = task_preferences("ideal", tasks, ideal or {}, 0.0, float("-inf"))
        for name in ("logits", "mean", "square", "steps"):  # the last three are Adam's
            self.register_buffer(name, torch.zeros(len(tasks), dtype=torch.float64))
        self._before: dict[str, Tensor] = {}

    @property
    def needs_losses_after_step(self) -> bool:
        return True

    def weights(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        shares = torch.softmax(self.logits[self._numbers(tasks)], dim=0).to(losses)
        weights = shares / self._above(losses, tasks)
        return weights / weights.sum() * len(tasks)

    def observe(self, losses: Mapping[str, Tensor], is_accumulation_end: bool) -> None:
        self._before = dict(losses)

    def after_step(self, losses: Mapping[str, Tensor]) -> None:
        """Move the logits by what the step gained."""
        tasks = [task for task in losses if task in self._before]
        if not tasks:
            return
        before = torch.stack([self._before[task] for task in tasks]).double()
        after = torch.stack([losses[task].detach() for task in tasks]).double()
        gain = self._above(before, tasks).log() - self._above(after, tasks).log()
        if torch.isfinite(gain).all():
            self._adam(self._numbers(tasks), gain)

    def _adam(self, numbers: list[int], gain: Tensor) -> None:
        z = torch.softmax(self.logits[numbers], dim=0)
        slope = z * (gain - (z * gain).sum()) + self.decay * self.logits[numbers]
        self.steps[numbers] += 1
        self.mean[numbers] = BETAS[0] * self.mean[numbers] + (1 - BETAS[0]) * slope
        self.square[numbers] = BETAS[1] * self.square[numbers] + (1 - BETAS[1]) * slope**2
        mean = self.mean[numbers] / (1 - BETAS[0] ** self.steps[numbers])
        square = self.square[numbers] / (1 - BETAS[1] ** self.steps[numbers])
        self.logits[numbers] -= self.lr * mean / (square.sqrt() + EPSILON)

    def _above(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return D: (P,)."""
        ideal = losses.new_tensor([self.ideal[task] for task in tasks])
        return (losses - ideal).clamp(min=0) + EPSILON

    def _numbers(self, tasks: Sequence[str]) -> list[int]:
        return [self.tasks.index(task) for task in tasks]
