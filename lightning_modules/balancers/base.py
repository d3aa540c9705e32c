"""The balancer contract: how the tasks' losses become one gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from torch import Tensor, nn

from lightning_modules.balancers.gradient.shared import Shared


class Balancer(nn.Module, ABC):
    """Combines the losses of the tasks that a step has, and fills ``.grad``.

    State is registered buffers and parameters by task name, so a checkpoint restores it exactly.

    Args:
        tasks: names of all tasks of the run.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)

    @property
    def wants_losses_after(self) -> bool:
        """Say whether ``after_step`` needs the step's losses once more."""
        return False

    @property
    def keeps_vectors(self) -> bool:
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
        shared: Shared | None = None,
        *,
        objective: Tensor | None = None,
        rest: Tensor | None = None,
        last: bool = True,
    ) -> None:
        """Add this step's gradient to ``.grad`` of every parameter.

        Args:
            losses: {task: scalar} of the tasks that this step has.
            shared: what the tasks share, for methods that look at gradients; None: all parameters
                that several of the losses reach.
            objective: ``objective(losses)``, plus ``rest`` if there is one, possibly scaled by the
                trainer (gradient accumulation, mixed precision); None: computed here.
            rest: a scalar that belongs to no task; its gradient is added after balancing.
            last: False: an optimizer step follows only after further calls, whose gradients add up.
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
