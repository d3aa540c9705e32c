"""Features of the same rows in this run and in a source: of encoders, or of what heads read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from datamodules.features import Features, concat_features
from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.hooks import HookedModule, TrainingStep
from lightning_modules.transfer.frozen_model import FrozenModel
from pollinate.errors import UsageError
from pollinate.suggest import hint


def match_grids(own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Average the larger of two grids (..., H, W) down to the other's height and width."""
    height, width = map(min, own.shape[-2:], other.shape[-2:])
    first = functional.adaptive_avg_pool2d(own, (height, width))
    return first, functional.adaptive_avg_pool2d(other, (height, width))


@dataclass(frozen=True)
class FeaturePair:
    """Features of the same n rows.

    own: (n, D), (n, L, D) of tokens, or (n, D, H, W); with a gradient.
    other: of the source, alike but for D, H and W; without one.
    rows: of all processes, >= 1.
    mask: (n, L) bool, True where tokens are real, or None.
    counts: rows that one of the n counts as: words and cells share the weight of their row.
    """

    own: Tensor
    other: Tensor
    rows: int
    mask: Tensor | None = None
    counts: float = 1.0

    def precise(self) -> Self:
        """Return it with 32 bits or more, for differences and products of large numbers."""
        kind = torch.promote_types(self.own.dtype, torch.float32)
        return replace(self, own=self.own.to(kind), other=self.other.to(kind))


class FeaturePairs(ABC):
    """Finds pairs in a step.

    Attributes:
        of_tasks: whether a pair's name is that of the task whose head reads ``own``; False: it
            belongs to no task.
    """

    of_tasks: bool

    @abstractmethod
    def find(self, step: TrainingStep) -> dict[str, FeaturePair]:
        """Return {name: pair} of what the step has; the same names in all processes."""

    @abstractmethod
    def whose(self, name: str) -> str:
        """Return what the other features of a pair are of, for people."""

    def required_tasks(self, sizes: Mapping[str, int]) -> list[str]:
        """Return tasks whose heads must read a step with these rows, labelled or not."""
        return []


KINDS = ("pooled", "sequence", "grid")


class EncoderFeaturePairs(FeaturePairs):
    """{modality: what both encoders make of all its rows, whatever data set they come from}.

    Rows that lack the modality count as if they didn't differ.

    Args:
        teacher: whose encoders.
        modalities: names; None: all that both have.
        kind: pooled, sequence or grid.
        module, datamodule: of this run.

    Raises:
        UsageError: there is no such encoder, or the teacher reads other rows.
    """

    of_tasks = False

    def __init__(
        self,
        teacher: FrozenModel,
        modalities: Sequence[str] | None,
        kind: str,
        module: HookedModule,
        datamodule: MixedDataModule,
    ) -> None:
        self.teacher, self.kind = teacher, kind
        own = list(module.network.encoders)
        for name in modalities or ():
            if name not in own:
                raise UsageError(f"this run reads no {name}{hint(name, own, 'it reads')}")
        self.modalities = list(modalities or [m for m in own if m in teacher.network.encoders])
        if not self.modalities:
            theirs = ", ".join(teacher.network.encoders)
            raise UsageError(f"this run reads {', '.join(own)}, and {teacher.name} only {theirs}")
        for name in self.modalities:
            teacher.require_encoder(name, module, datamodule)

    def find(self, step: TrainingStep) -> dict[str, FeaturePair]:
        """Compare all rows of a modality at once."""
        found = {name: self._pair(name, step) for name in self.modalities}
        return {name: pair for name, pair in found.items() if pair is not None}

    def whose(self, name: str) -> str:
        return self.teacher.name

    def _pair(self, modality: str, step: TrainingStep) -> FeaturePair | None:
        batches = step.batch.batches
        names = {id(batch): name for name, batch in batches.items()}
        compared = [
            (names[id(one.batch)], one.by_modality[modality])
            for one in step.trace.encoded.values()
            if modality in one.by_modality
        ]
        if not compared:
            return None
        taught = self.teacher.features(modality, batches)
        mine = concat_features([features for _, features in compared])
        theirs = concat_features([taught[name] for name, _ in compared])
        own = self._tensor(mine, f"encoder.{modality}")
        other = self._tensor(theirs, f"the encoder of {modality} of {self.teacher.name}")
        if self.kind == "sequence" and own.shape[1] != other.shape[1]:
            raise UsageError(
                f"tokens of {modality} must be the same, got {own.shape[1]} of this run's encoder "
                f"and {other.shape[1]} of {self.teacher.name}'s; compare transfer.at=pooled"
            )
        rows = sum(step.batch.sizes[name] for name, _ in compared)
        return FeaturePair(own, other, rows, mine.mask if self.kind == "sequence" else None)

    def _tensor(self, features: Features, whose: str) -> Tensor:
        kinds = {"pooled": features.pooled, "sequence": features.sequence, "grid": features.grid}
        found = kinds[self.kind]
        if found is None:
            has = " or ".join(name for name, value in kinds.items() if value is not None)
            raise UsageError(f"{whose} gives no {self.kind}; set transfer.at={has}")
        return found


class HeadFeaturePairs(FeaturePairs):
    """{task: what its head reads here, and what a teacher's head reads of the same rows}.

    Rows without a label of the task take part.

    Args:
        teacher: whose heads.
        tasks: {task here: task there}; None: all of the same name.
        module, datamodule: of this run.

    Raises:
        UsageError: there is no such task, or the teacher reads other rows.
    """

    of_tasks = True

    def __init__(
        self,
        teacher: FrozenModel,
        tasks: Mapping[str, str] | None,
        module: HookedModule,
        datamodule: MixedDataModule,
    ) -> None:
        self.teacher = teacher
        self.routes = module.network.routes
        both = {name: name for name in self.routes if name in teacher.network.heads}
        self.tasks = dict(both if tasks is None else tasks)
        require_common_task(self.tasks, list(self.routes), teacher)
        for own, other in self.tasks.items():
            require_own_task(own, list(self.routes))
            teacher.require_task(other, self.routes[own], module, datamodule)

    def find(self, step: TrainingStep) -> dict[str, FeaturePair]:
        """Compare what each head reads."""
        mine = step.trace.representations
        found = {}
        for group in self._groups([task for task in self.tasks if task in mine]):
            routes = {self.tasks[task]: self.routes[task] for task in group}
            taught = self.teacher.representations(step.batch.batches, routes)
            for task in group:
                other = taught[self.tasks[task]]
                if len(mine[task]) != len(other):
                    raise UsageError(
                        f"task {task} sees {len(mine[task])} words or cells of the rows here, and "
                        f"{self.tasks[task]} of {self.teacher.name} {len(other)}; use the same "
                        "type of task, tokenizer, size and encoder"
                    )
                found[task] = task_pair(task, self.routes[task], step, mine[task], other)
        return found

    def whose(self, name: str) -> str:
        return f"{self.tasks[name]} of {self.teacher.name}"

    def required_tasks(self, sizes: Mapping[str, int]) -> list[str]:
        """Return the tasks whose data sets have rows."""
        return [task for task in self.tasks if any(sizes.get(name) for name in self.routes[task])]

    def _groups(self, tasks: list[str]) -> list[list[str]]:
        """Part tasks so that none has two that learn from the same task of the teacher."""
        groups: list[dict[str, str]] = []
        for task in tasks:
            other = self.tasks[task]
            free = next((group for group in groups if other not in group), None)
            if free is None:
                groups.append(free := {})
            free[other] = task
        return [list(group.values()) for group in groups]


def task_pair(
    task: str, route: tuple[str, ...], step: TrainingStep, own: Tensor, other: Tensor
) -> FeaturePair:
    """Return a task's pair, (n, D) and (n, D'), of which a row's vectors count as one row."""
    batches = step.batch.batches
    here = sum(len(batches[name].index) for name in route if name in batches)
    rows = sum(step.batch.sizes.get(name, 0) for name in route)
    return FeaturePair(own, other, rows, counts=here / max(1, len(own)))


def require_own_task(task: str, own: list[str]) -> None:
    """Check that this run has a task."""
    if task not in own:
        raise UsageError(f"this run has no task {task!r}{hint(task, own, 'its tasks')}")


def require_common_task(tasks: Mapping[str, str], own: list[str], teacher: FrozenModel) -> None:
    """Check that there is a task to teach."""
    if not tasks:
        raise UsageError(
            f"{teacher.name} has no task of the same name as one of this run; it has "
            f"{', '.join(teacher.network.heads) or 'none'}: say which teaches which, "
            f"transfer.tasks={{{own[0]}: TASK OF THE SOURCE}}"
        )


class PeerFeaturePairs(FeaturePairs):
    """{task: what its head reads, and, detached, what another task's reads of the same rows}.

    Args:
        source: the other task.
        tasks: that learn from it; None: all others that read the same data sets.
        module: of this run.

    Raises:
        UsageError: there is no such task, tasks read other rows, or the trunk gives all the same.
    """

    of_tasks = True

    def __init__(self, source: str, tasks: Sequence[str] | None, module: HookedModule) -> None:
        self.source, self.routes = source, module.network.routes
        for task in [source, *(tasks or ())]:
            require_own_task(task, list(self.routes))
        if module.network.trunk.same_for_all:
            raise UsageError(
                f"all tasks read the same features of {type(module.network.trunk).__name__}, so "
                f"none has anything to learn from {source}; choose trunk=mmoe, say"
            )
        same = [t for t, route in self.routes.items() if set(route) == set(self.routes[source])]
        self.tasks = list(same if tasks is None else tasks)
        self.tasks = [task for task in self.tasks if task != source]
        wrong = next((task for task in self.tasks if task not in same), None)
        if wrong is not None or not self.tasks:
            who = f"task {wrong}" if wrong else "another task"
            raise UsageError(
                f"{who} must read the same data sets as {source}, which reads "
                f"{', '.join(self.routes[source])}, to learn from what it makes of their rows"
            )

    def find(self, step: TrainingStep) -> dict[str, FeaturePair]:
        """Compare each task with the source."""
        read = step.trace.representations
        if self.source not in read:
            return {}
        other = read[self.source].detach()
        found = {}
        for task in (task for task in self.tasks if task in read):
            if len(read[task]) != len(other):
                raise UsageError(
                    f"tasks {task} and {self.source} must see the same things of a row, got "
                    f"{len(read[task])} and {len(other)} words, cells or rows; choose tasks of one "
                    "type"
                )
            found[task] = task_pair(task, self.routes[task], step, read[task], other)
        return found

    def whose(self, name: str) -> str:
        return self.source

    def required_tasks(self, sizes: Mapping[str, int]) -> list[str]:
        """Return all, if their data sets have rows."""
        there = any(sizes.get(name) for name in self.routes[self.source])
        return [self.source, *self.tasks] if there else []


class CombinedFeaturePairs(FeaturePairs):
    """All pairs of all members, whose names differ.

    Args:
        members: all of tasks, or none; >= 1.
    """

    def __init__(self, members: Sequence[FeaturePairs]) -> None:
        self.members = list(members)
        self.of_tasks = self.members[0].of_tasks
        self._owner: dict[str, FeaturePairs] = {}

    def find(self, step: TrainingStep) -> dict[str, FeaturePair]:
        found: dict[str, FeaturePair] = {}
        for member in self.members:
            pairs = member.find(step)
            self._owner |= dict.fromkeys(pairs, member)
            found |= pairs
        return found

    def whose(self, name: str) -> str:
        return self._owner[name].whose(name)

    def required_tasks(self, sizes: Mapping[str, int]) -> list[str]:
        return [task for member in self.members for task in member.required_tasks(sizes)]
