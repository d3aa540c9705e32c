"""What loading data asks of a task; the tasks themselves are above this layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from datamodules.label_maps import MapFormat
from datamodules.prompts import Prompt, TextCodec
from datamodules.table import Column, Columns

Target = str | Sequence[str]  # a column, or several


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


@runtime_checkable
class LabelledTask(Protocol):
    """A task as a data set sees it: where its labels are, how they are checked and encoded.

    ``lightning_modules.tasks.base.Task`` says what each of these does.
    """

    dataset: tuple[str, ...] | None
    datasets: tuple[str, ...]
    target: Target | Mapping[str, Target] | None
    unseen: str
    unlabelled: tuple[str, ...]
    known: Mapping[str, Any] | None
    modalities: Sequence[str]
    maps: MapFormat | None
    prompt: Prompt | None
    classes: Sequence[str]

    @property
    def labels_words(self) -> bool: ...

    def use_datasets(self, names: Sequence[str]) -> None: ...

    def target_in(self, dataset: str) -> Target: ...

    def problems(self, values: Column, inputs: Columns) -> dict[int, str]: ...

    def use_codec(self, codec: TextCodec) -> None: ...

    def learn(self, values: Iterable[Any]) -> None: ...

    def encode(self, values: Iterable[Any]) -> EncodedTargets: ...

    def notes(self) -> Iterator[str]: ...

    def class_numbers(self, target: Tensor) -> Tensor | None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...
