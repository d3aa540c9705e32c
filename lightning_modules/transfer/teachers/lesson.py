"""What a step's rows have to learn from the teachers of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from lightning_modules.comparisons.base import Comparison
from lightning_modules.processes import together
from lightning_modules.transfer.base import TransferStep
from lightning_modules.transfer.teachers.voice import Voice, rows_by_dataset


@dataclass(frozen=True)
class Lesson:
    """The rows of a task that a teacher has an output for.

    step: where they come from.
    comparison: how outputs are compared.
    student, teacher: (n, ...) outputs, of this process.
    labels: (n, ...) targets, placeholders where there is none; labelled: (n,) bool.
    rows: of all processes, >= 1.
    """

    step: TransferStep
    comparison: Comparison
    student: Tensor
    teacher: Tensor
    labels: Tensor
    labelled: Tensor
    rows: int

    def mean(self, losses: Tensor) -> Tensor:
        """Return the mean of losses (n,) over all processes' rows; see ``TransferStep.mean``."""
        return self.step.mean(losses, self.rows)


class Course:
    """The teachers of one task.

    Args:
        task: its name.
        comparison: how its outputs are compared.
        route: its data sets, in order.
        voices: of each teacher {data set: what it says there}.
        weights: of the teachers, > 0.
        temperature: at which probabilities are averaged, > 0.

    Attributes:
        taught: the data sets whose rows they teach on.
        peers: tasks of this run that are among the teachers.
    """

    def __init__(
        self,
        task: str,
        comparison: Comparison,
        route: Sequence[str],
        voices: Sequence[Mapping[str, Voice]],
        weights: Sequence[float],
        temperature: float,
    ) -> None:
        self.task = task
        self.comparison = comparison
        self.route = tuple(route)
        self.voices = [dict(own) for own in voices]
        self.weights = torch.tensor(list(weights))
        self.temperature = temperature
        self.taught = [name for name in route if any(name in own for own in voices)]
        said = [voice for own in self.voices for voice in own.values()]
        self.peers = sorted({peer for voice in said for peer in voice.needs})
        self._voices = said

    def lesson(self, step: TransferStep) -> Lesson | None:
        """Return a step's lesson, None if no process has a row for it."""
        outputs, has = self._said(step)
        chosen = has.any(dim=0)
        rows = self._rows(step, chosen)
        if not rows:
            return None
        teacher = self._together(outputs[:, chosen], has[:, chosen])
        batches = [step.batch.batches[name] for name in self.route if name in step.batch.batches]
        labels = torch.cat([batch.targets[self.task] for batch in batches])
        labelled = torch.cat([batch.present[self.task] for batch in batches])
        student = step.outputs[self.task][chosen]
        return Lesson(
            step, self.comparison, student, teacher, labels[chosen], labelled[chosen], rows
        )

    def _said(self, step: TransferStep) -> tuple[Tensor, Tensor]:
        """Return what the teachers say, (K, N, ...), and of which rows, (K, N) bool."""
        student = step.outputs[self.task].detach()
        precise = torch.promote_types(student.dtype, torch.float32)
        outputs = student.new_zeros((len(self.voices), *student.shape), dtype=precise)
        has = torch.zeros(outputs.shape[:2], dtype=torch.bool, device=student.device)
        for dataset, rows in rows_by_dataset(step.batch, self.route).items():
            for number, own in enumerate(self.voices):
                if dataset in own:
                    found, which = own[dataset].outputs(step)
                    outputs[number, rows], has[number, rows] = found.to(outputs), which.to(has)
        return outputs, has

    def _together(self, outputs: Tensor, has: Tensor) -> Tensor:
        """Return what stands for the teachers' weighted mean, of those that say something."""
        if len(outputs) == 1:
            return outputs[0]
        weights = self.weights.to(outputs)[:, None] * has
        return self.comparison.mean(outputs, weights / weights.sum(dim=0), self.temperature)

    def _rows(self, step: TransferStep, chosen: Tensor) -> int:
        """Return how many rows all processes have for the lesson; all know the same.

        A process that steps on its own takes the others to have as many.
        """
        if all(voice.complete() for voice in self._voices):
            return sum(step.batch.sizes.get(name, 0) for name in self.taught)
        count = chosen.sum()
        if together():
            distributed.all_reduce(count)
            return int(count)
        return int(count) * step.world  # others, if there are any, aren't asked
