"""A vector for each task that lasts over steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import UsageError


class Traces(nn.Module):
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
                "; in a loop of your own, name what is shared: shared=SharedParameters(...)"
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
