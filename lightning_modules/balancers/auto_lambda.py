"""Weights learnt from what a step does to the primary tasks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.gradient_base import JacobianBalancer, TaskVectors
from lightning_modules.balancers.shared_gradients import ParameterGradients, SharedGradients
from pollinate.errors import UsageError


class AutoLambda(JacobianBalancer):
    """A task's weight grows if a step along its gradient lowers the primary tasks' next loss.

    w_t <- max(0, w_t + lr cos(g_t, h)), h the gradient of the primary tasks' summed loss on other
    rows after a step: -g_t . h is that loss's derivative by w_t, up to the rate of the step.

    Without ``trial_lr`` it looks one step *back*: g_t is of the step before, h of this step's rows
    after the real optimizer step in between. This costs no forward, and the weights that a step
    uses were learnt from the steps before it. State: one vector a task.

    With ``trial_lr`` it looks *ahead*, as in the paper, and needs gradient accumulation: g_t is of
    all parts of the step but the last; h is of the last part's rows after the trial step
    -trial_lr sum_t w_t g_t on the shared parameters, which is then undone; and the same step, which
    takes all parts, has the new weights. One more forward and backward of the last part.

    Source: Liu et al. 2022, "Auto-Lambda", equations 4 to 6, whose validation batch is another
    batch of the training data as well. Deviations: the trial step is without momentum and doesn't
    move the heads; the cosine takes the place of Adam on w; g_t is used itself, where the paper
    takes finite differences of the losses along h.

    Args:
        tasks, losses: as for every ``GradientBalancer``; the level is ``parameters``.
        primary: tasks that matter; empty: all.
        lr: > 0, of the weights.
        trial_lr: > 0, rate of the trial step; null: it looks back.

    Raises:
        UsageError: a primary task that there isn't; an option out of its range.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> balancer = po.balancers.AutoLambda(["mood", "stars"], primary=["mood"], lr=0.1)
        >>> for _ in range(2):  # a step on stars raises the loss of mood
        ...     losses = {"mood": shared.sum(), "stars": -shared.sum()}
        ...     balancer.backward(losses)
        >>> {task: round(weight, 2) for task, weight in balancer.task_weights(losses).items()}
        {'mood': 1.1, 'stars': 0.9}
    """

    levels = ("auto", "parameters")
    weight: Tensor
    known: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        primary: Sequence[str] = (),
        lr: float = 0.01,
        trial_lr: float | None = None,
        level: str = "auto",
        losses: LossBalancer | None = None,
    ) -> None:
        super().__init__(tasks, level, losses)
        unknown = [task for task in primary if task not in tasks]
        if unknown:
            raise UsageError(
                f"balancer.primary names {', '.join(unknown)}; the tasks are {', '.join(tasks)}"
            )
        if not lr > 0:
            raise UsageError(f"balancer.lr must be > 0, got {lr}")
        if trial_lr is not None and not trial_lr > 0:
            raise UsageError(f"balancer.trial_lr must be > 0 or null, got {trial_lr}")
        self.primary, self.lr, self.trial_lr = tuple(primary) or tuple(tasks), lr, trial_lr
        self.register_buffer("weight", torch.ones(len(tasks), dtype=torch.float64))
        self.register_buffer("known", torch.zeros(len(tasks), dtype=torch.bool))
        self.traces = TaskVectors(tasks)
        self._earlier: dict[str, Tensor] = {}  # gradients of the parts before the last, by task

    @property
    def needs_probe(self) -> bool:
        return self.trial_lr is not None

    def _look_at_part(
        self, shared: SharedGradients, tasks: Sequence[str], scale: float, is_accumulation_end: bool
    ) -> None:
        if self.trial_lr is not None and not is_accumulation_end:
            seen = list(dict.fromkeys([*self._earlier, *tasks]))
            rows = shared.jacobian(seen) / (scale * (self._calls + 1))
            self._earlier = dict(zip(seen, rows, strict=True))

    def combine_at(
        self, shared: SharedGradients, jacobian: Tensor, losses: Tensor, tasks: Sequence[str]
    ) -> Tensor:
        earlier, self._earlier = self._earlier, {}
        if not earlier or self.probe is None or self.trial_lr is None:
            return self.combine(jacobian, losses, tasks)
        assert isinstance(shared, ParameterGradients)
        rows = torch.stack(list(earlier.values()))
        numbers = [self.tasks.index(task) for task in earlier]
        with shared.moved(-self.trial_lr * (self.weight[numbers].to(rows) @ rows)):
            after = self.probe()
            goals = [loss for task, loss in after.items() if task in self.primary]
            goal = shared.gradient(torch.stack(goals).sum()) if goals else None
        if goal is not None and torch.isfinite(goal).all():
            for number, row in zip(numbers, rows, strict=True):
                self._move(number, row, goal)
        own = [self.tasks.index(task) for task in tasks]
        return self.weight[own].to(jacobian) @ jacobian

    def combine(self, jacobian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        self.traces.allocate(jacobian[0])
        goals = [row for task, row in zip(tasks, jacobian, strict=True) if task in self.primary]
        if goals:
            self._learn(torch.stack(goals).sum(dim=0))
        self.known.zero_()
        numbers = [self.tasks.index(task) for task in tasks]
        for task, row in zip(tasks, jacobian, strict=True):
            self.traces[task].copy_(row)
        self.known[numbers] = True
        return self.weight[numbers].to(jacobian) @ jacobian

    def _learn(self, goal: Tensor) -> None:
        """Compare the last step's gradients with the primary tasks' new one."""
        for number, task in enumerate(self.tasks):
            if self.known[number]:
                self._move(number, self.traces[task], goal)

    def _move(self, number: int, gradient: Tensor, goal: Tensor) -> None:
        cosine = torch.cosine_similarity(gradient, goal, dim=0)
        self.weight[number] = (self.weight[number] + self.lr * cosine).clamp(min=0)

    def seen_weights(self, tasks: Sequence[str]) -> Tensor:
        return self.weight.cpu()[[self.tasks.index(task) for task in tasks]]
