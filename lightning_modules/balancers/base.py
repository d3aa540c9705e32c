"""The balancer contract: how the tasks' losses become one gradient; balancers that weigh losses."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from lightning_modules.balancers.shared_gradients import SharedGradients
from pollinate.errors import UsageError
from pollinate.recipes import Buildable


class Balancer(nn.Module, metaclass=Buildable):
    """Combines the losses of the tasks that a step has, and fills ``.grad``.

    State is registered buffers and parameters by task name, so a checkpoint restores it exactly.

    Args:
        tasks: names of all tasks of the run.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = {"mood": 3 * shared[0], "stars": shared[1] - shared[0]}
        >>> balancer = po.balancers.Fixed(["mood", "stars"], {"mood": 0.5})
        >>> isinstance(balancer, po.balancers.Balancer), balancer.task_weights(losses)
        (True, {'mood': 0.5, 'stars': 1.0})
        >>> balancer.backward(losses)
        >>> shared.grad
        tensor([0.5000, 1.0000])
    """

    given_later: ClassVar[frozenset[str]] = frozenset({"tasks"})

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        # returns the losses of the present call's rows once more, with a graph, for the weights of
        # the moment; for a method that needs it, set for each call
        self.probe: Callable[[], Mapping[str, Tensor]] | None = None

    @property
    def needs_probe(self) -> bool:
        """Say whether it needs ``probe``, and steps of several accumulated calls."""
        return False

    @property
    def needs_losses_after_step(self) -> bool:
        """Say whether ``after_step`` needs the step's losses once more."""
        return False

    @property
    def tracks_shared_gradients(self) -> bool:
        """Say whether it keeps vectors as long as the shared parameters from step to step."""
        return False

    def level(self, same_features: bool) -> str | None:
        """Return where gradients are looked at: ``features`` or ``parameters``; None: nowhere.

        Args:
            same_features: whether all tasks read the same features of the same rows.
        """
        return None

    @abstractmethod
    def objective(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar that stands for the step in logs, differentiable.

        Args:
            losses: {task: scalar} of the tasks that this step has; absent tasks are left out.
        """

    @abstractmethod
    def task_weights(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the weight that each present task has now, for the log."""

    @abstractmethod
    def backward(
        self,
        losses: Mapping[str, Tensor],
        shared: SharedGradients | None = None,
        *,
        objective: Tensor | None = None,
        regularization: Tensor | None = None,
        is_accumulation_end: bool = True,
    ) -> None:
        """Add this step's gradient to ``.grad`` of every parameter.

        Args:
            losses: {task: scalar} of the tasks that this step has.
            shared: what the tasks share, for methods that look at gradients; None: all parameters
                that several of the losses reach.
            objective: ``objective(losses)``, plus ``regularization`` if there is any, possibly
                scaled by the trainer (gradient accumulation, mixed precision); None: computed here.
            regularization: a scalar that belongs to no task; its gradient is added after balancing.
            is_accumulation_end: False: an optimizer step follows only after further calls, whose
                gradients add up.
        """

    def begin_epoch(self, epoch: int) -> None:
        """Take note of the epoch, from 0, that the next steps are of; may be told repeatedly."""

    def after_step(self, losses: Mapping[str, Tensor]) -> None:
        """Take note of the same rows' losses after the optimizer step, where they are wanted."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move to a device, but keep the precision of the state: averages must not stall."""
        before = {name: one.dtype for name, one in self.named_buffers(recurse=False)}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's is not annotated
        for name, buffer in list(self.named_buffers(recurse=False)):
            self._buffers[name] = buffer.to(before[name])
        return self


class LossBalancer(Balancer):
    """Weighs losses: objective = sum_t w_t L_t + penalty, over the step's tasks.

    Examples:
        >>> import torch, pollinate as po
        >>> class OneOver(po.balancers.LossBalancer):
        ...     def weights(self, losses, tasks):
        ...         return 1 / losses
        >>> losses = torch.tensor([2.0, 8.0], requires_grad=True)
        >>> OneOver(["mood", "stars"]).backward({"mood": losses[0], "stars": losses[1]})
        >>> losses.grad
        tensor([0.5000, 0.1250])
    """

    @abstractmethod
    def weights(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return the weights: (P,).

        Args:
            losses: (P,) losses of the present tasks, detached.
            tasks: (P,) their names, in the same order.
        """

    def penalty(self, tasks: Sequence[str]) -> Tensor | None:
        """Return a scalar added to the weighted sum, or None."""
        return None

    def observe(self, losses: Mapping[str, Tensor], is_accumulation_end: bool) -> None:
        """Take note of losses, detached, after their backward.

        ``is_accumulation_end`` says whether an optimizer step follows.
        A state that weights depend on moves here and nowhere else.
        """

    def objective(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return sum_t w_t L_t plus the penalty."""
        tasks = list(losses)
        values = torch.stack([losses[task] for task in tasks])
        total = (self.weights(values.detach(), tasks) * values).sum()
        penalty = self.penalty(tasks)
        return total if penalty is None else total + penalty

    def task_weights(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        if not losses:  # of a step without any label
            return {}
        values = torch.stack([loss.detach() for loss in losses.values()])
        return dict(zip(losses, self.weights(values, list(losses)).tolist(), strict=True))

    def backward(
        self,
        losses: Mapping[str, Tensor],
        shared: SharedGradients | None = None,
        *,
        objective: Tensor | None = None,
        regularization: Tensor | None = None,
        is_accumulation_end: bool = True,
    ) -> None:
        """Add the gradient of the objective; what is shared does not matter."""
        if objective is None:
            objective = self.objective(losses)
            objective = objective if regularization is None else objective + regularization
        objective.backward()  # type: ignore[no-untyped-call]  # torch's is not annotated
        self.observe({task: loss.detach() for task, loss in losses.items()}, is_accumulation_end)


class Scalarization(LossBalancer):
    """Minimises s(L_1, ..., L_P); a task's weight is ds / dL_t.

    Examples:
        >>> import torch, pollinate as po
        >>> class Worst(po.balancers.Scalarization):
        ...     def scalarize(self, losses, tasks):
        ...         return losses.max()
        >>> losses = {"mood": torch.tensor(2.0), "stars": torch.tensor(8.0)}
        >>> Worst(["mood", "stars"]).task_weights(losses)
        {'mood': 0.0, 'stars': 1.0}
    """

    @abstractmethod
    def scalarize(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return s, differentiable.

        Args:
            losses: (P,) of the present tasks.
            tasks: (P,) their names, in the same order.
        """

    def objective(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return s of the losses of the tasks that this step has."""
        return self.scalarize(torch.stack(list(losses.values())), list(losses))

    def weights(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return ds / dL: (P,)."""
        with torch.enable_grad():
            values = losses.detach().requires_grad_()
            (found,) = torch.autograd.grad(self.scalarize(values, tasks), values)
        return found


def task_preferences(
    name: str, tasks: Sequence[str], given: Mapping[str, float], default: float, lowest: float
) -> dict[str, float]:
    """Return a number for every task.

    Args:
        name: of the option, for errors.
        tasks: names of all tasks of the run.
        given: {task: number}.
        default: of tasks that are not named.
        lowest: numbers must be above it.

    Raises:
        UsageError: an unknown task, or a number that is not finite or too small.
    """
    for task, number in given.items():
        if task not in tasks:
            raise UsageError(f"balancer.{name} names {task!r}; the tasks are {', '.join(tasks)}")
        if not (math.isfinite(number) and number > lowest):
            raise UsageError(f"balancer.{name}.{task} must be finite and > {lowest}, got {number}")
    return {task: float(given.get(task, default)) for task in tasks}
