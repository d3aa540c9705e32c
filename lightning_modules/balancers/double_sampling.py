"""Gradients of two batches, for weights that their noise doesn't pull to one side."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.gradient_base import JacobianBalancer, TaskVectors
from lightning_modules.balancers.shared_gradients import SharedGradients


class DoubleSampling(JacobianBalancer):
    """T sum_t w_t g_t with weights v that descend by A B^T, A and B the Jacobians of two batches.

    E[A B^T] is the Gramian of the expected gradients; that of one batch, A A^T, is larger by the
    noise of the batch on its diagonal. A and B are
      - the first and the mean of the other parts of a step with gradient accumulation
        (``trainer.accumulate_grad_batches`` >= 2): independent batches at the same weights, as in
        the papers; g is the mean over all of them;
      - otherwise the step before and this one: independent batches, one optimizer step apart. The
        first step of a task doesn't move its weight. This costs one vector a task, and no rows.
    A B^T is divided by the mean of |a_t| |b_t|, so that rates have no unit.

    Args:
        tasks, losses: as for every ``GradientBalancer``; the level is ``parameters``.

    Examples:
        >>> import torch, pollinate as po
        >>> class Steadiest(po.balancers.DoubleSampling):
        ...     def descend(self, share, products, tasks):  # a gradient that noise reverses gets 0
        ...         return (products.diagonal() > 0).double() / len(tasks)
        >>> balancer, shared = Steadiest(["mood", "stars"]), torch.ones(2, requires_grad=True)
        >>> for sign in (1, -1):
        ...     shared.grad = None
        ...     balancer.backward({"mood": 2 * shared[0], "stars": sign * shared[1]})
        >>> shared.grad
        tensor([4., 0.])
    """

    levels = ("auto", "parameters")
    weight: Tensor
    known: Tensor

    def __init__(
        self, tasks: Sequence[str], level: str = "auto", losses: LossBalancer | None = None
    ) -> None:
        super().__init__(tasks, level, losses)
        self.register_buffer("weight", torch.full((len(tasks),), 1 / len(tasks)).double())
        self.register_buffer("known", torch.zeros(len(tasks), dtype=torch.bool))
        self.traces = TaskVectors(tasks)
        self._first: dict[str, Tensor] = {}  # of the parts of a step, by task

    @abstractmethod
    def descend(self, share: Tensor, products: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return the weights after their step, which sum up to 1: (T,).

        Args:
            share: (T,) before it.
            products: (T, T), A B^T divided by the mean of |a_t| |b_t|.
            tasks: (T,) names.
        """

    def combined(self, share: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return what the gradients are multiplied by: (T,)."""
        return share * len(tasks)

    def _look_at_part(
        self, shared: SharedGradients, tasks: Sequence[str], scale: float, is_accumulation_end: bool
    ) -> None:
        if self._calls:
            return
        rows = () if is_accumulation_end else shared.jacobian(tasks) / scale
        self._first = dict(zip(tasks, rows, strict=False))

    def combine(self, jacobian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        numbers = [self.tasks.index(task) for task in tasks]
        pairs = self._pairs(jacobian, tasks)
        self._first = {}
        at = [place for place, task in enumerate(tasks) if task in pairs]
        if len(at) > 1:
            own = [numbers[place] for place in at]
            first, second = (
                torch.stack([pairs[tasks[place]][side] for place in at]) for side in (0, 1)
            )
            self.weight[own] = self._moved(own, first, second, [tasks[place] for place in at])
        weights = self.weight.cpu()[numbers]
        share = weights / weights.sum().clamp(min=1e-12)
        return self.combined(share, tasks).to(jacobian) @ jacobian

    def _pairs(self, jacobian: Tensor, tasks: Sequence[str]) -> dict[str, tuple[Tensor, Tensor]]:
        """Return two gradients of each task that has two; remember this step's."""
        if self._first:
            parts, means = self._calls, dict(zip(tasks, jacobian, strict=True))
            return {
                task: (first, (parts * means[task] - first) / (parts - 1))
                for task, first in self._first.items()
                if task in means
            }
        self.traces.allocate(jacobian[0])
        found = {}
        for task, row in zip(tasks, jacobian, strict=True):
            if self.known[self.tasks.index(task)]:
                found[task] = (self.traces[task].clone(), row)
            self.traces[task].copy_(row)
        self.known[[self.tasks.index(task) for task in tasks]] = True
        return found

    def _moved(
        self, numbers: list[int], first: Tensor, second: Tensor, tasks: Sequence[str]
    ) -> Tensor:
        """Return v after its step; these tasks keep their sum."""
        weights = self.weight.cpu()[numbers]
        total = weights.sum()
        unit = (first.norm(dim=1) * second.norm(dim=1)).mean()
        if total <= 0 or not unit > 0:
            return weights.to(self.weight)
        products = (first @ second.T / unit).double().cpu()
        return (total * self.descend(weights / total, products, tasks)).to(self.weight)

    def seen_weights(self, tasks: Sequence[str]) -> Tensor:
        weights = self.weight.cpu()[[self.tasks.index(task) for task in tasks]]
        return self.combined(weights / weights.sum().clamp(min=1e-12), tasks)
