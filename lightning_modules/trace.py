"""What a forward pass made on its way from the inputs to the outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lightning_modules.views.base import Seen


@dataclass
class Trace:
    """Filled by ``MultiTaskNetwork.forward``.

    seen: {data set: its encoded rows}; where encoders have adapters a task, {key of ``copies``}.
    parts: {task: what its head read, (N_i, D) of each group of rows}.
    """

    seen: dict[str, Seen] = field(default_factory=dict)
    parts: dict[str, list[Tensor]] = field(default_factory=dict)

    def encoded(self, seen: Mapping[str, Seen]) -> None:
        """Take note of encoded rows."""
        self.seen.update(seen)

    @property
    def representations(self) -> dict[str, Tensor]:
        """{task: what its head read, (N, D)}, rows in the order of the task's outputs."""
        return {task: torch.cat(rows) for task, rows in self.parts.items()}
