"""The tuning contract: which weights of an encoder train."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from lightning_modules.encoders.base import Encoder
from lightning_modules.tuning.adapter import Adapter
from pipeline.errors import UsageError

NO_ADAPTERS = "the run trained no adapters; one with tune=task_lora, lora or dora has some"


class Tuning(ABC):
    """Chooses among an encoder's weights; those of a projection put on a backbone always train.

    Attributes:
        needs: packages, besides those of every run, that it is built with.
        caches: whether what the backbone makes of a row, the same in all steps, is kept on disk.
        adapts: whether it puts adapters beside the backbone, which can be taken out again.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    caches: bool = False
    adapts: ClassVar[bool] = False

    @abstractmethod
    def apply(self, encoder: Encoder, tasks: Sequence[str]) -> None:
        """Choose, once: after pre-trained weights were loaded, before a checkpoint's are.

        Args:
            encoder: of one modality.
            tasks: those that are predicted from rows of the modality.

        Raises:
            UsageError: the encoder has no such part.
        """

    def adapter(self, encoder: Encoder, task: str) -> Adapter:
        """Return what was put beside the backbone, as a task sees it.

        Raises:
            UsageError: nothing was.
        """
        raise UsageError(NO_ADAPTERS)

    def merged(self, encoder: Encoder, task: str) -> dict[str, Tensor]:
        """Return {name: weight} of the backbone without adapters that gives a task's features.

        Raises:
            UsageError: there are no adapters.
        """
        raise UsageError(NO_ADAPTERS)


class SteppedTuning(Tuning):
    """Chooses anew at every step, by the step's number alone, so that a resumed run does the same.

    All weights that ever train are trainable after ``apply``, so that the optimizer knows them.
    """

    @abstractmethod
    def at(self, encoder: Encoder, step: int) -> bool:
        """Choose for an optimizer step, counted from 0; return whether anything changed."""
