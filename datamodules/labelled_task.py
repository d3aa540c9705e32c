"""What loading data asks of a task; the tasks themselves are above this layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from datamodules.label_maps import MapFormat
from datamodules.table import Column, Columns


@dataclass
class EncodedTargets:
    """Targets of N rows.

    targets: (N, ...), a placeholder where there is no label.
    present: (N,) bool, True where there is one.
    unseen: {row: label that the training split doesn't have}; such rows count as not labelled.
    """

    targets: Tensor
    present: Tensor
    unseen: dict[int, str] = field(default_factory=dict)


class LabelledTask(Protocol):
    """A task as a data set sees it: how its labels are checked, learnt and encoded.

    ``lightning_modules.tasks.base.Task`` says what each of these does.
    """

    modalities: Sequence[str]
    maps: MapFormat | None

    def problems(self, values: Column, inputs: Columns) -> dict[int, str]:
        """See ``Task.problems``."""

    def learn(self, values: Iterable[Any]) -> None:
        """See ``Task.learn``."""

    def encode(self, values: Iterable[Any]) -> EncodedTargets:
        """See ``Task.encode``."""

    def class_numbers(self, target: Tensor) -> Tensor | None:
        """See ``Task.class_numbers``."""

    def state_dict(self) -> dict[str, Any]:
        """See ``Task.state_dict``."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See ``Task.load_state_dict``."""
