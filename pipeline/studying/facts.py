"""What the data and the joint run say before any trial is run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TaskFacts:
    """datasets: of the task; modalities: of its rows; metric: its score.

    tested: whether test rows have labels, so that there is a test score.
    """

    datasets: list[str]
    modalities: list[str]
    metric: str
    tested: bool


@dataclass(frozen=True)
class Facts:
    """The joint run's size.

    rows: {data set: rows a step}; batch_size: rows a step that the sampler is asked for.
    steps_per_epoch: of the sampler; steps: of the optimizer, in all.
    evaluated: {data set: rows that are scored in the whole run}.
    learns_tokens: whether a tokenizer is trained on the run's own texts.
    start: seconds that a trial needs before its first step.
    step: seconds of a joint step on this machine; None: it couldn't be timed.
    """

    tasks: dict[str, TaskFacts]
    rows: dict[str, int]
    batch_size: int
    steps_per_epoch: int
    steps: int
    evaluated: dict[str, int]
    learns_tokens: bool
    start: float = 0.0
    step: float | None = None
    notes: list[str] = field(default_factory=list)

    def datasets(self, tasks: tuple[str, ...]) -> list[str]:
        """Return the data sets that some tasks need, in the data's order."""
        needed = {name for task in tasks for name in self.tasks[task].datasets}
        return [name for name in self.rows if name in needed]


def facts_from(plain: Mapping[str, Any]) -> Facts:
    """Return what ``dataclasses.asdict`` made plain."""
    tasks = {name: TaskFacts(**own) for name, own in plain["tasks"].items()}
    return Facts(**{**plain, "tasks": tasks})


def optimizer_steps(trainer: Mapping[str, Any], epoch: int) -> int:
    """Return a run's optimizer steps.

    Args:
        trainer: options of the Trainer.
        epoch: steps of the sampler's epoch.
    """
    batches = limited(epoch, trainer.get("limit_train_batches"))
    each = math.ceil(batches / (trainer.get("accumulate_grad_batches") or 1))
    epochs, most = trainer.get("max_epochs"), trainer.get("max_steps")
    known = [each * epochs] if epochs is not None and epochs >= 0 else []
    known += [most] if most is not None and most >= 0 else []
    return int(min(known, default=0))


def limited(epoch: int, limit: float | None) -> int:
    """Return an epoch's steps under ``limit_train_batches``: a number of them, or a share."""
    if limit is None:
        return epoch
    return min(epoch, limit) if isinstance(limit, int) else int(epoch * limit)
