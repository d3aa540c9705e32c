"""Balancers that look at the tasks' gradients."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lightning_modules.balancers.base import Balancer
from lightning_modules.balancers.gradient.found import FoundParameters
from lightning_modules.balancers.gradient.parameters import SharedParameters, accumulate
from lightning_modules.balancers.gradient.shared import Shared
from lightning_modules.balancers.loss.base import LossBalancer
from lightning_modules.balancers.loss.equal import Equal
from pipeline.errors import UsageError

LEVELS = ("auto", "features", "parameters")


@dataclass(frozen=True)
class Seen:
    """What the last step showed.

    tasks: T names.
    gramian: (T, T) of the tasks' gradients, float64; None where it would have cost and wasn't
        asked for.
    weights: (T,); None for a method that has none.
    """

    tasks: tuple[str, ...]
    gramian: Tensor | None
    weights: Tensor | None


class GradientBalancer(Balancer):
    """Combines the tasks' gradients of what they share; each head keeps its own gradient.

    Args:
        tasks: names of all tasks of the run.
        level: ``parameters``: of the shared parameters; ``features``: of what the heads read,
            in one backward; ``auto``: features where all tasks read the same ones.
        losses: a loss method that comes first: task t's gradient is then that of its weighted
            loss, also in its head. None: the losses as they are.

    Raises:
        UsageError: an unknown level, or one that the method can't work on.
    """

    levels: ClassVar[tuple[str, ...]] = LEVELS  # those that the method can work on

    def __init__(
        self, tasks: Sequence[str], level: str = "auto", losses: LossBalancer | None = None
    ) -> None:
        super().__init__(tasks)
        if level not in self.levels:
            raise UsageError(f"balancer.level must be {' or '.join(self.levels)}, got {level}")
        if losses is not None and not isinstance(losses, LossBalancer):
            raise UsageError(
                f"balancer.losses must be a method that weighs losses, got {type(losses).__name__}"
            )
        self.wanted_level = level
        self.first = losses or Equal(tasks)
        self.seen: Seen | None = None
        self.watched = False  # whether the next step's Gramian is wanted where it costs
        self._found = FoundParameters()  # of a loop that doesn't name what is shared
        self._sums: dict[str, Tensor] = {}  # of the losses since the last optimizer step
        self._calls = 0

    @abstractmethod
    def _combine(self, shared: Shared, tasks: Sequence[str], losses: Tensor, scale: float) -> None:
        """Combine the rows that ``shared`` holds and apply them.

        Args:
            shared: holds a row for each of the tasks.
            tasks: the T tasks of the step.
            losses: (T,), float64.
            scale: what the rows are multiplied by: gradient = row / scale.
        """

    def objective(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the losses, combined by the loss method that comes first."""
        return self.first.objective(losses)

    def task_weights(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the weights of the last step's gradients."""
        if self.seen is None or self.seen.weights is None:
            return {}
        weights = dict(zip(self.seen.tasks, self.seen.weights.tolist(), strict=True))
        return {task: weights[task] for task in losses if task in weights}

    @property
    def wants_losses_after(self) -> bool:
        """Say whether the loss method does."""
        return self.first.wants_losses_after

    @property
    def keeps_vectors(self) -> bool:
        """Say whether it can't work on features, which are others at each step."""
        return "features" not in self.levels

    def level(self, same_features: bool) -> str:
        """Return the level asked for; for ``auto``, the cheapest one that tells anything."""
        if self.wanted_level != "auto":
            return self.wanted_level
        return "features" if same_features and "features" in self.levels else "parameters"

    def begin_epoch(self, epoch: int) -> None:
        """Tell the loss method."""
        self.first.begin_epoch(epoch)

    def after_step(self, losses: Mapping[str, Tensor]) -> None:
        """Tell the loss method."""
        self.first.after_step(losses)

    def backward(
        self,
        losses: Mapping[str, Tensor],
        shared: Shared | None = None,
        *,
        objective: Tensor | None = None,
        rest: Tensor | None = None,
        last: bool = True,
    ) -> None:
        """Add the combined gradient, and the heads' own."""
        every = {task: loss.detach() for task, loss in losses.items()}
        losses = {task: loss for task, loss in losses.items() if loss.requires_grad}
        if objective is None and losses:
            objective = self.objective(losses)
            objective = objective if rest is None else objective + rest
        if shared is None:
            if not last or self._calls:
                raise UsageError("gradients that add up over calls need shared=SharedParameters()")
            shared = SharedParameters(self._found.of(list(losses.values())))
        scale = 1.0
        if losses and objective is not None:
            slopes, scale = self._slopes(losses, objective, rest)
            shared.differentiate(losses, slopes)
        elif rest is not None and rest.requires_grad:
            (rest if objective is None else objective).backward()  # type: ignore[no-untyped-call]  # torch's is not annotated
        self._calls += 1
        for task, loss in losses.items():
            self._sums[task] = self._sums.get(task, 0) + loss.detach().double()
        if last or shared.immediate:
            self._finish(shared, scale)
        self.first.observe(every, last)

    def _finish(self, shared: Shared, scale: float) -> None:
        tasks = list(self._sums)
        if tasks:
            means = torch.stack([self._sums[task] for task in tasks]).cpu() / self._calls
            self._combine(shared, tasks, means, scale * self._calls)
        self._sums, self._calls = {}, 0

    def _slopes(
        self, losses: Mapping[str, Tensor], objective: Tensor, rest: Tensor | None
    ) -> tuple[dict[str, Tensor], float]:
        """Return ({task: d objective / d L_t}, the scale of the objective).

        What belongs to no task gets its gradient here: the loss method's own parameters, ``rest``.
        """
        own = [p for p in self.first.parameters() if p.requires_grad]
        extra = [] if rest is None or not rest.requires_grad else [rest]
        found = torch.autograd.grad(
            objective, [*losses.values(), *extra, *own], retain_graph=True, allow_unused=True
        )
        count = len(losses)
        accumulate(own, found[count + len(extra) :])
        for one, slope in zip(extra, found[count:], strict=False):
            torch.autograd.backward([one], [slope], retain_graph=True)
        zero = objective.new_zeros(())
        slopes = [zero if slope is None else slope.detach() for slope in found[:count]]
        given = list(self.first.task_weights(losses).values())
        weights = torch.tensor(given, dtype=torch.float64)
        total = weights @ weights
        products = torch.stack(slopes).double().cpu() @ weights
        scale = float(products / total) if total > 0 else 1.0
        return dict(zip(losses, slopes, strict=True)), scale
