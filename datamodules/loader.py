"""Loaders over numbered steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Generator
from torch.utils.data import DataLoader, Dataset

from datamodules.batch import MixedBatch
from datamodules.plan import Plan


@dataclass
class LoaderOptions:
    """workers: processes that prepare batches, >= 0; evaluation_batch_size: rows, >= 1."""

    workers: int = 0
    pin_memory: bool = False
    evaluation_batch_size: int = 256


class StepLoader:
    """Yields the batches of steps ``position``, ``position + 1``, ... one epoch at a time.

    The position counts batches that were handed out, not those that workers prepared ahead, so a
    state taken after a step continues with exactly the next step.

    Args:
        steps: maps a step's number to its batch; a pure function.
        plan: is told which epoch begins, and says how many batches one iteration hands out.
        position: first step.
        options: of torch's DataLoader (num_workers, pin_memory).
    """

    def __init__(
        self, steps: Dataset[MixedBatch], plan: Plan, position: int = 0, **options: Any
    ) -> None:
        self.steps = steps
        self.plan = plan
        self.position = position
        self.options = options

    def __len__(self) -> int:
        return self.plan.epoch_steps

    def __iter__(self) -> Iterator[MixedBatch]:
        self.plan.begin(self.position)
        numbers = range(self.position, self.position + self.plan.epoch_steps)
        for batch in _load(self.steps, numbers, self.options):
            self.position += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the next step's number."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue at the given step."""
        self.position = state["position"]


class EvaluationLoader:
    """Yields the batches of all steps in order.

    Args:
        steps: has a length and maps a step's number to its batch.
        options: of torch's DataLoader (num_workers, pin_memory).
    """

    def __init__(self, steps: Dataset[MixedBatch], length: int, **options: Any) -> None:
        self.steps = steps
        self.length = length
        self.options = options

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[MixedBatch]:
        yield from _load(self.steps, range(self.length), self.options)


def _load(
    steps: Dataset[MixedBatch], numbers: Sequence[int], options: dict[str, Any]
) -> DataLoader[MixedBatch]:
    """Load the given steps in order, with a generator of its own: torch's is left untouched."""
    generator = Generator().manual_seed(0)
    return DataLoader(steps, batch_size=None, sampler=numbers, generator=generator, **options)
