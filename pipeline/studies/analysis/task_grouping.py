"""Which tasks to train together, for each number of models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np

from pipeline.studies.analysis.estimates import TaskGrouping
from pipeline.studies.analysis.paired_tests import paired_scores
from pipeline.studies.analysis.partitions import Partition, best_partitions, local_search_partitions
from pipeline.studies.analysis.score_table import (
    ArmCost,
    ScoreTable,
    arm_cost,
    baseline_arms,
    score_table,
    total_cost,
)
from pipeline.studies.results import StudyResults

Changes = Mapping[str, float]  # {task: relative change against its single-task run}


@dataclass(frozen=True)
class CandidateModel:
    """arm: that was trained, or a name for one that wasn't; changes: of all tasks it is trained on.

    predicted: whether the changes are guessed.
    """

    arm: str
    changes: Changes
    predicted: bool = False

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.changes)

    @property
    def total(self) -> float:
        return sum(self.changes.values())


@dataclass(frozen=True)
class ModelChoice:
    """The best model for some tasks: gain: sum of their changes; -inf where none has them."""

    gain: float
    model: CandidateModel | None


def measured_models(results: StudyResults, table: ScoreTable) -> list[CandidateModel]:
    """Return the trained models with all labels, whose change is known in each of their tasks."""
    single_task = {task: arm for (task, share), arm in baseline_arms(results).items() if share == 1}
    found = [
        CandidateModel(arm, {task: 0.0})
        for task, arm in single_task.items()
        if table.seeds(arm, task)
    ]
    for name, arm in results.arms.items():
        if arm.labels != 1 or arm.kind in ("single_task", "transfer"):
            continue
        known: dict[str, float] = {}
        for task in arm.tasks:
            base = table.seeds(single_task.get(task, ""), task)
            both = paired_scores(table.seeds(name, task), base)
            if both is not None and both.ratio is not None:
                known[task] = both.ratio
        if known and len(known) == len(arm.tasks):
            found.append(CandidateModel(name, known))
    return found


def best_model(
    tasks: Iterable[str], models: Iterable[CandidateModel], predict: bool
) -> ModelChoice:
    """Return the model with the largest sum of changes over these tasks, among those with all.

    A trained model may serve some of its tasks and leave the others, which have helped it learn,
    to other models. With ``predict`` a group that wasn't trained is guessed from its pairs.

    Source: Standley et al. 2020.
    """
    served, everything = tuple(tasks), list(models)
    found = ModelChoice(-np.inf, None)
    trained = False
    for model in everything:
        trained |= set(model.tasks) == set(served)
        if set(served) <= set(model.tasks):
            gain = sum(model.changes[task] for task in served)
            found = ModelChoice(gain, model) if gain > found.gain else found
    guess = predicted(served, everything) if predict and not trained else None
    if guess and guess.total > found.gain:
        return ModelChoice(guess.total, guess)
    return found


def predicted(tasks: tuple[str, ...], models: Iterable[CandidateModel]) -> CandidateModel | None:
    """Return a group of three tasks or more by its pairs; None where one wasn't trained.

    A task's change is the mean of its changes in the best pair with each of the others.

    Source: Standley et al. 2020, the higher-order approximation.
    """
    if len(tasks) < 3:
        return None
    pairs: dict[frozenset[str], CandidateModel] = {}
    for one in models:
        key = frozenset(one.tasks)
        if len(key) == 2 and (key not in pairs or one.total > pairs[key].total):
            pairs[key] = one
    if any(frozenset(both) not in pairs for both in combinations(tasks, 2)):
        return None
    changes = {
        task: float(
            np.mean([pairs[frozenset((task, o))].changes[task] for o in tasks if o != task])
        )
        for task in tasks
    }
    return CandidateModel("predicted:" + "+".join(tasks), changes, True)


EXHAUSTIVE = 10  # most tasks of which all partitions are gone through
BETTER = 1e-12  # of delta_m: less is rounding


def best_groupings(
    results: StudyResults, test: ScoreTable, seed: int, notes: list[str]
) -> list[TaskGrouping]:
    """Return the best way to serve all tasks with 1, 2, ... T models, by validation scores.

    Of each number of models the best whose models were all trained, then the best with groups that
    are only predicted, each where it beats those before it. They are chosen by validation and
    delta_m is of test scores, so that choosing doesn't flatter it.

    Source: Standley et al. 2020.
    """
    valid = score_table(results, "valid")
    shown = measured_models(results, test)
    chosen_by = measured_models(results, valid)
    if [one.arm for one in chosen_by] != [one.arm for one in shown]:
        notes.append("groups are chosen by test scores: some validation scores lack")
        chosen_by = shown
    served = {task for one in shown for task in one.tasks}
    tasks = sorted(served & set(results.metrics))
    if tasks and len(tasks) < len(results.metrics):
        lack = sorted(set(results.metrics) - served)
        notes.append(
            f"groups leave out {', '.join(lack)}: no score against their single-task runs yet"
        )
    found: list[TaskGrouping] = []
    reached: dict[bool, float] = {False: -np.inf, True: -np.inf}
    partitions: dict[bool, list[Partition | None]] = {}
    for predict in (False, True):
        value = partial(_gain, chosen_by, predict)
        few = len(tasks) <= EXHAUSTIVE
        partitions[predict] = (
            best_partitions(tasks, value) if few else local_search_partitions(tasks, value, seed)
        )
    for at in range(len(tasks)):
        for predict in (False, True):
            partition = partitions[predict][at] or []
            choices = [best_model(own, chosen_by, predict) for own in partition]
            total = sum(one.gain for one in choices) if choices else -np.inf
            if total > max(reached[False], reached[predict]) + BETTER * len(tasks):
                reached[predict] = total
                found.append(_grouping(results, partition, choices, shown))
    return found


def _gain(models: Sequence[CandidateModel], predict: bool, served: tuple[str, ...]) -> float:
    return best_model(served, models, predict).gain


def _grouping(
    results: StudyResults,
    partition: Partition,
    choices: Sequence[ModelChoice],
    shown: Sequence[CandidateModel],
) -> TaskGrouping:
    """Return a partition with its changes by test scores and its costs."""
    by_name = {one.arm: one for one in shown}
    served: dict[str, str] = {}
    changes: dict[str, float] = {}
    used: dict[str, CandidateModel] = {}
    for tasks, choice in zip(partition, choices, strict=True):
        if choice.model is not None:
            guess = predicted(choice.model.tasks, shown) if choice.model.predicted else None
            model = guess or by_name[choice.model.arm]
            used[model.arm] = model
            served |= dict.fromkeys(tasks, model.arm)
            changes |= {task: model.changes[task] for task in tasks}
    prices = [_price(results, model, shown) for model in used.values()]
    whole = total_cost([one for one in prices if one])
    return TaskGrouping(
        models=len(used),
        groups=[model.tasks for model in used.values()],
        served=dict(sorted(served.items())),
        delta_m=float(np.mean(list(changes.values()))),
        seconds=whole.seconds,
        parameters=whole.parameters if all(prices) else None,
        predicted=[model.tasks for model in used.values() if model.predicted],
    )


def _price(
    results: StudyResults, model: CandidateModel, shown: Sequence[CandidateModel]
) -> ArmCost | None:
    """Return a model's cost; one not trained takes its pairs' time a task, and their size."""
    if not model.predicted:
        return arm_cost(results, model.arm)
    group = set(model.tasks)
    pairs = [one.arm for one in shown if len(one.tasks) == 2 and set(one.tasks) <= group]
    known = [cost for arm in pairs if (cost := arm_cost(results, arm))]
    if not known:
        return None
    sizes = [one.parameters for one in known if one.parameters is not None]
    seconds = float(np.mean([one.seconds for one in known])) * len(group) / 2
    return ArmCost(seconds, round(float(np.mean(sizes))) if sizes else None, None)
