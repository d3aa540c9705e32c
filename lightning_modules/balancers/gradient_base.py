"""Balancers that combine the tasks' gradients, by their Gramian or their Jacobian."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lightning_modules.balancers.base import Balancer, LossBalancer, task_preferences
from lightning_modules.balancers.equal import Equal
from lightning_modules.balancers.shared_gradients import (
    ParameterGradients,
    SharedGradients,
    SharedParameterFinder,
    accumulate_grad,
    gramian,
)
from pollinate.errors import PollinateError, UsageError

LEVELS = ("auto", "features", "parameters")


@dataclass(frozen=True)
class GradientSummary:
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

    Examples:
        >>> import torch, pollinate as po
        >>> shared, head = (torch.ones(2, requires_grad=True) for _ in range(2))
        >>> losses = {"mood": (3 * shared * head).sum(), "stars": -shared.sum()}
        >>> balancer = po.balancers.MGDA(["mood", "stars"])
        >>> isinstance(balancer, po.balancers.GradientBalancer)
        True
        >>> balancer.backward(losses)
        >>> shared.grad, head.grad  # the head's own, unweighted
        (tensor([0., 0.]), tensor([3., 3.]))
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
        self.requested_level = level
        self.first = losses or Equal(tasks)
        self.seen: GradientSummary | None = None
        self.watched = False  # whether the next step's Gramian is wanted where it costs
        self._found = SharedParameterFinder()  # of a loop that doesn't name what is shared
        self._sums: dict[str, Tensor] = {}  # of the losses since the last optimizer step
        self._calls = 0

    @abstractmethod
    def _combine(
        self, shared: SharedGradients, tasks: Sequence[str], losses: Tensor, scale: float
    ) -> None:
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
    def needs_losses_after_step(self) -> bool:
        return self.first.needs_losses_after_step

    @property
    def tracks_shared_gradients(self) -> bool:
        """Say whether it can't work on features, which are others at each step."""
        return "features" not in self.levels

    def level(self, same_features: bool) -> str:
        """Return the level asked for; for ``auto``, the cheapest one that tells anything."""
        if self.requested_level != "auto":
            return self.requested_level
        return "features" if same_features and "features" in self.levels else "parameters"

    def begin_epoch(self, epoch: int) -> None:
        self.first.begin_epoch(epoch)

    def after_step(self, losses: Mapping[str, Tensor]) -> None:
        self.first.after_step(losses)

    def backward(
        self,
        losses: Mapping[str, Tensor],
        shared: SharedGradients | None = None,
        *,
        objective: Tensor | None = None,
        regularization: Tensor | None = None,
        is_accumulation_end: bool = True,
    ) -> None:
        """Add the combined gradient, and the heads' own."""
        every = {task: loss.detach() for task, loss in losses.items()}
        losses = {task: loss for task, loss in losses.items() if loss.requires_grad}
        if objective is None and losses:
            objective = self.objective(losses)
            objective = objective if regularization is None else objective + regularization
        if shared is None:
            if not is_accumulation_end or self._calls:
                raise UsageError(
                    "gradients that add up over calls need shared=ParameterGradients()"
                )
            shared = ParameterGradients(self._found.of(list(losses.values())))
        scale = 1.0
        if losses and objective is not None:
            cotangents, scale = self._cotangents(losses, objective, regularization)
            shared.differentiate(losses, cotangents)
            self._look_at_part(shared, list(losses), scale, is_accumulation_end)
        elif regularization is not None and regularization.requires_grad:
            (regularization if objective is None else objective).backward()  # type: ignore[no-untyped-call]  # torch's is not annotated
        self._calls += 1
        for task, loss in losses.items():
            self._sums[task] = self._sums.get(task, 0) + loss.detach().double()
        if is_accumulation_end or shared.applies_each_call:
            self._finish(shared, scale)
        self.first.observe(every, is_accumulation_end)

    def _look_at_part(
        self, shared: SharedGradients, tasks: Sequence[str], scale: float, is_accumulation_end: bool
    ) -> None:
        """Look at the gradients of the calls so far, of which an optimizer step may have several.

        Args:
            shared: holds the sum of the calls' rows.
            tasks: those of this call.
            scale: what this call's rows are multiplied by.
            is_accumulation_end: whether this call is the last.
        """

    def _finish(self, shared: SharedGradients, scale: float) -> None:
        tasks = list(self._sums)
        if tasks:
            means = torch.stack([self._sums[task] for task in tasks]).cpu() / self._calls
            self._combine(shared, tasks, means, scale * self._calls)
        self._sums, self._calls = {}, 0

    def _cotangents(
        self, losses: Mapping[str, Tensor], objective: Tensor, regularization: Tensor | None
    ) -> tuple[dict[str, Tensor], float]:
        """Return ({task: d objective / d L_t}, the scale of the objective).

        What belongs to no task gets its gradient here: the loss method's own parameters, and
        ``regularization``.
        """
        own = [p for p in self.first.parameters() if p.requires_grad]
        extra = (
            [] if regularization is None or not regularization.requires_grad else [regularization]
        )
        found = torch.autograd.grad(
            objective, [*losses.values(), *extra, *own], retain_graph=True, allow_unused=True
        )
        count = len(losses)
        accumulate_grad(own, found[count + len(extra) :])
        for one, slope in zip(extra, found[count:], strict=False):
            torch.autograd.backward([one], [slope], retain_graph=True)
        zero = objective.new_zeros(())
        cotangents = [zero if slope is None else slope.detach() for slope in found[:count]]
        given = list(self.first.task_weights(losses).values())
        weights = torch.tensor(given, dtype=torch.float64)
        total = weights @ weights
        products = torch.stack(cotangents).double().cpu() @ weights
        scale = float(products / total) if total > 0 else 1.0
        return dict(zip(losses, cotangents, strict=True)), scale


class GramianBalancer(GradientBalancer):
    """Shared gradient = sum_t w_t g_t, where w is a function of G = J J^T and the losses.

    What a paper normalises to sum_t w_t = 1 is multiplied by the number of tasks here, so that all
    w_t are 1, the gradient of the plain sum, where gradients are orthogonal and of one length:
    for all methods but those that choose among tasks.

    Examples:
        >>> import torch, pollinate as po
        >>> class EqualLengths(po.balancers.GramianBalancer):
        ...     def weights(self, gramian, losses, tasks):
        ...         return gramian.diagonal().rsqrt()
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": 4 * shared[0], "stars": -2 * shared[1]}
        >>> EqualLengths(["mood", "stars"]).backward(losses)
        >>> shared.grad
        tensor([ 1., -1.])
    """

    @abstractmethod
    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return the weights: (T,).

        Args:
            gramian: (T, T), float64, on the CPU; its diagonal is positive.
            losses: (T,), float64.
            tasks: (T,) the names of the present tasks.
        """

    def weigh(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return ``weights`` of the tasks that have a gradient, and 0 for the others: (T,).

        A Gramian that isn't finite gets ones: the gradient then shows what is wrong to the
        precision plugin, or to the rule for losses that are no number.
        """
        if not torch.isfinite(gramian).all():
            return torch.ones(len(tasks), dtype=torch.float64)
        has = gramian.diagonal() > 0
        found = torch.zeros(len(tasks), dtype=torch.float64)
        if has.any():
            names = [task for task, flag in zip(tasks, has.tolist(), strict=True) if flag]
            found[has] = self.weights(gramian[has][:, has], losses[has], names)
        if not torch.isfinite(found).all():
            raise PollinateError(
                f"balancer {type(self).__name__} found no weights for the Gramian "
                f"{gramian.tolist()} of {', '.join(tasks)}; please report it, and use another"
            )
        return found

    def _combine(
        self, shared: SharedGradients, tasks: Sequence[str], losses: Tensor, scale: float
    ) -> None:
        gramian = shared.gramian(tasks) / scale**2
        weights = self.weigh(gramian, losses, tasks)
        shared.apply(tasks, weights)
        self.seen = GradientSummary(tuple(tasks), gramian, weights)


class PreferenceBalancer(GramianBalancer):
    """A method in whose equations a weighted sum of the tasks stands where others have the sum.

    Args:
        tasks, level, losses: as for every ``GradientBalancer``.
        preference: {task: p_t > 0}; 1 for a task that isn't named.

    Raises:
        UsageError: as for every one, and a preference that isn't > 0, or for an unknown task.

    Examples:
        >>> import torch, pollinate as po
        >>> class Preferred(po.balancers.PreferenceBalancer):
        ...     def weights(self, gramian, losses, tasks):
        ...         return torch.from_numpy(self.preferred(tasks))
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": 2 * shared[0], "stars": shared[1]}
        >>> Preferred(["mood", "stars"], {"stars": 3.0}).backward(losses)
        >>> shared.grad
        tensor([2., 3.])
    """

    def __init__(
        self,
        tasks: Sequence[str],
        preference: Mapping[str, float] | None = None,
        level: str = "auto",
        losses: LossBalancer | None = None,
    ) -> None:
        super().__init__(tasks, level, losses)
        self.preference = task_preferences("preference", tasks, preference or {}, 1.0, 0.0)

    def preferred(self, tasks: Sequence[str]) -> NDArray[np.float64]:
        """Return p of the present tasks: (T,)."""
        return np.array([self.preference[task] for task in tasks])


class JacobianBalancer(GradientBalancer):
    """Shared gradient = A(J), a function of the tasks' gradients themselves.

    Scaled like a ``GramianBalancer``: T times a mean. Under several processes every one of them
    has the whole Jacobian.

    Examples:
        >>> import torch, pollinate as po
        >>> class Largest(po.balancers.JacobianBalancer):
        ...     def combine(self, jacobian, losses, tasks):
        ...         return jacobian.max(dim=0).values
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": shared[0] + 2 * shared[1], "stars": 3 * shared[0] - shared[1]}
        >>> Largest(["mood", "stars"]).backward(losses)
        >>> shared.grad
        tensor([3., 2.])
    """

    @abstractmethod
    def combine(self, jacobian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return the shared gradient: (P,).

        Args:
            jacobian: (T, P), row t = task t's gradient.
            losses: (T,), float64.
            tasks: (T,) the names of the present tasks.
        """

    def _combine(
        self, shared: SharedGradients, tasks: Sequence[str], losses: Tensor, scale: float
    ) -> None:
        jacobian = shared.jacobian(tasks)
        if not shared.is_finite(jacobian):
            shared.apply_vector(jacobian.sum(dim=0))  # shown to the precision plugin, or the rule
            return
        if scale != 1:
            jacobian = jacobian / scale
        found = self.combine_at(shared, jacobian, losses, tasks)
        products = gramian(jacobian).cpu() if self.watched else None
        self.seen = GradientSummary(tuple(tasks), products, self.seen_weights(tasks))
        shared.apply_vector(found * scale if scale != 1 else found)

    def combine_at(
        self, shared: SharedGradients, jacobian: Tensor, losses: Tensor, tasks: Sequence[str]
    ) -> Tensor:
        """Return ``combine``, for a method to which it matters where the gradients meet: (P,)."""
        return self.combine(jacobian, losses, tasks)

    def seen_weights(self, tasks: Sequence[str]) -> Tensor | None:
        """Return the weights of the last step for the log: (T,), or None if it has none."""
        return None


class TaskVectors(nn.Module):
    """Buffers ``row.<number of the task>`` of P numbers each; P is known at the first step.

    Args:
        tasks: names of all tasks of the run.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)

    def allocate(self, like: Tensor) -> None:
        """Make rows of zeros like ``like`` (P,), unless there are some.

        Raises:
            UsageError: the rows that there are have another length.
        """
        rows = dict(self.named_buffers())
        if not rows:
            for number in range(len(self.tasks)):
                self.register_buffer(f"row{number}", torch.zeros_like(like))
        elif len(rows["row0"]) != len(like):
            raise UsageError(
                f"the balancer's state is of {len(rows['row0'])} shared parameters, got {len(like)}"
                "; in a loop of your own, name what is shared: shared=ParameterGradients(...)"
            )

    def __getitem__(self, task: str) -> Tensor:
        row: Tensor = self.get_buffer(f"row{self.tasks.index(task)}")
        return row

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        saved = state_dict.get(f"{prefix}row0")
        if saved is not None:
            self.allocate(saved)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
