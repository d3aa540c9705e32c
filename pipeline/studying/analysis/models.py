"""Models that could serve tasks: those that were trained, and groups guessed from their pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from pipeline.studying.analysis.baselines import baselines
from pipeline.studying.analysis.pairing import pair
from pipeline.studying.analysis.table import Table
from pipeline.studying.results import Results

Changes = Mapping[str, float]  # {task: relative change against the task alone}


@dataclass(frozen=True)
class Model:
    """arm: that was trained, or a name for one that wasn't; changes: of all tasks it is trained on.

    predicted: whether the changes are guessed.
    """

    arm: str
    changes: Changes
    predicted: bool = False

    @property
    def tasks(self) -> tuple[str, ...]:
        """All tasks that the model is trained on."""
        return tuple(self.changes)


@dataclass(frozen=True)
class Choice:
    """The best model for some tasks: gain: sum of their changes; -inf where none has them."""

    gain: float
    model: Model | None


def measured(results: Results, table: Table) -> list[Model]:
    """Return the trained models with all labels, whose change is known in each of their tasks."""
    alone = {task: arm for (task, share), arm in baselines(results).items() if share == 1}
    found = [Model(arm, {task: 0.0}) for task, arm in alone.items() if table.seeds(arm, task)]
    for name, arm in results.arms.items():
        if arm.labels != 1 or arm.kind in ("alone", "transfer"):
            continue
        changes = {task: _change(table, name, task, alone.get(task)) for task in arm.tasks}
        known = {task: change for task, change in changes.items() if change is not None}
        if known and len(known) == len(arm.tasks):
            found.append(Model(name, known))
    return found


def _change(table: Table, arm: str, task: str, base: str | None) -> float | None:
    both = pair(table.seeds(arm, task), table.seeds(base, task)) if base else None
    return both.ratio if both else None


def best(tasks: Iterable[str], models: Iterable[Model], predict: bool) -> Choice:
    """Return the model with the largest sum of changes over these tasks, among those with all.

    A trained model may serve some of its tasks and leave the others, which have helped it learn,
    to other models. With ``predict`` a group that wasn't trained is guessed from its pairs.

    Source: Standley et al. 2020.
    """
    served, everything = tuple(tasks), list(models)
    found = Choice(-np.inf, None)
    trained = False
    for model in everything:
        trained |= set(model.tasks) == set(served)
        if set(served) <= set(model.tasks):
            gain = sum(model.changes[task] for task in served)
            found = Choice(gain, model) if gain > found.gain else found
    guess = predicted(served, everything) if predict and not trained else None
    if guess and (gain := sum(guess.changes.values())) > found.gain:
        return Choice(gain, guess)
    return found


def predicted(tasks: tuple[str, ...], models: Iterable[Model]) -> Model | None:
    """Return a group of three tasks or more by its pairs; None where one wasn't trained.

    A task's change is the mean of its changes in the best pair with each of the others.

    Source: Standley et al. 2020, the higher-order approximation.
    """
    if len(tasks) < 3:
        return None
    pairs: dict[frozenset[str], Model] = {}
    for one in models:
        key = frozenset(one.tasks)
        if len(key) == 2 and (key not in pairs or _total(one) > _total(pairs[key])):
            pairs[key] = one
    if any(frozenset(both) not in pairs for both in combinations(tasks, 2)):
        return None
    changes = {
        task: float(
            np.mean([pairs[frozenset((task, o))].changes[task] for o in tasks if o != task])
        )
        for task in tasks
    }
    return Model("predicted:" + "+".join(tasks), changes, True)


def _total(model: Model) -> float:
    return sum(model.changes.values())
