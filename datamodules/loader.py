"""A loader whose state is one number: the next step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Generator
from torch.utils.data import DataLoader, Dataset

from datamodules.batch import MixedBatch


class StepLoader:
    """Yields the batches of steps ``position``, ``position + 1``, ... in stretches of one epoch.

    The position counts batches that were handed out, not those that workers prepared ahead, so a
    state taken after a step continues with exactly the next step.

    Args:
        steps: maps a step's number to its batch; a pure function.
        epoch_steps: batches handed out by one iteration.
        position: first step.
        options: passed to torch's DataLoader (num_workers, pin_memory).
    """

    def __init__(
        self,
        steps: Dataset[MixedBatch],
        epoch_steps: int,
        position: int = 0,
        **options: Any,
    ) -> None:
        self.steps = steps
        self.epoch_steps = epoch_steps
        self.position = position
        self.options = options

    def __len__(self) -> int:
        return self.epoch_steps

    def __iter__(self) -> Iterator[MixedBatch]:
        numbers = range(self.position, self.position + self.epoch_steps)
        for batch in step_loader(self.steps, numbers, **self.options):
            self.position += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the next step's number."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue at the given step."""
        self.position = state["position"]


def step_loader(
    steps: Dataset[MixedBatch], numbers: Sequence[int], **options: Any
) -> DataLoader[MixedBatch]:
    """Load the given steps in order.

    The generator is the loader's own, so that making an iterator draws nothing from torch's.
    """
    return DataLoader(
        steps, batch_size=None, sampler=numbers, generator=Generator().manual_seed(0), **options
    )
