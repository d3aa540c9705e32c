"""The tuning contract: which weights of an encoder train."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from lightning_modules.encoders.base import Encoder


class Tuning(ABC):
    """Chooses among an encoder's weights; those of a projection put on a backbone always train.

    Attributes:
        needs: packages, besides those of every run, that it is built with.
        caches: whether what the backbone makes of a row, the same in all steps, is kept on disk.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    caches: bool = False

    @abstractmethod
    def apply(self, encoder: Encoder) -> None:
        """Choose, once: after pre-trained weights were loaded, before a checkpoint's are.

        Raises:
            UsageError: the encoder has no such part.
        """


class SteppedTuning(Tuning):
    """Chooses anew at every step, by the step's number alone, so that a resumed run does the same.

    All weights that ever train are trainable after ``apply``, so that the optimizer knows them.
    """

    @abstractmethod
    def at(self, encoder: Encoder, step: int) -> bool:
        """Choose for an optimizer step, counted from 0; return whether anything changed."""
