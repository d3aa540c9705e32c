"""Which tasks to train together, for each number of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.studying.analysis.costs import Cost, cost, together
from pipeline.studying.analysis.division_search import searched_divisions
from pipeline.studying.analysis.divisions import Division, best_divisions
from pipeline.studying.analysis.models import Choice, Model, best, measured, predicted
from pipeline.studying.analysis.table import Table, on_validation, table
from pipeline.studying.answers import Grouping
from pipeline.studying.results import Results

EXHAUSTIVE = 10  # most tasks of which all divisions are gone through
BETTER = 1e-12  # of delta_m: less is rounding


def groupings(results: Results, test: Table, seed: int, notes: list[str]) -> list[Grouping]:
    """Return the best way to serve all tasks with 1, 2, ... T models, by validation scores.

    Of each number of models the best whose models were all trained, then the best with groups that
    are only predicted, each where it beats those before it. They are chosen by validation and
    delta_m is of test scores, so that choosing doesn't flatter it.

    Source: Standley et al. 2020.
    """
    valid = table(results, on_validation)
    shown = measured(results, test)
    chosen_by = measured(results, valid)
    if [one.arm for one in chosen_by] != [one.arm for one in shown]:
        notes.append("groups are chosen by test scores: some validation scores lack")
        chosen_by = shown
    served = {task for one in shown for task in one.tasks}
    tasks = sorted(served & set(results.metrics))
    if tasks and len(tasks) < len(results.metrics):
        lack = sorted(set(results.metrics) - served)
        notes.append(f"groups leave out {', '.join(lack)}: no score against itself alone yet")
    found: list[Grouping] = []
    reached: dict[bool, float] = {False: -np.inf, True: -np.inf}
    divisions = {predict: _divisions(tasks, chosen_by, predict, seed) for predict in (False, True)}
    for at in range(len(tasks)):
        for predict in (False, True):
            choices = _choices(divisions[predict][at], chosen_by, predict)
            total = sum(one.gain for one in choices) if choices else -np.inf
            if total > max(reached[False], reached[predict]) + BETTER * len(tasks):
                reached[predict] = total
                found.append(_grouping(results, divisions[predict][at] or [], choices, shown))
    return found


def _divisions(
    tasks: Sequence[str], models: Sequence[Model], predict: bool, seed: int
) -> list[Division | None]:
    def value(served: tuple[str, ...]) -> float:
        return best(served, models, predict).gain

    if len(tasks) <= EXHAUSTIVE:
        return best_divisions(tasks, value)
    return searched_divisions(tasks, value, seed)


def _choices(division: Division | None, models: Sequence[Model], predict: bool) -> list[Choice]:
    return [best(served, models, predict) for served in division or []]


def _grouping(
    results: Results, division: Division, choices: Sequence[Choice], shown: Sequence[Model]
) -> Grouping:
    """Return a division with its changes by test scores and its costs."""
    by_name = {one.arm: one for one in shown}
    served: dict[str, str] = {}
    changes: dict[str, float] = {}
    used: dict[str, Model] = {}
    for tasks, choice in zip(division, choices, strict=True):
        if choice.model is not None:
            guess = predicted(choice.model.tasks, shown) if choice.model.predicted else None
            model = guess or by_name[choice.model.arm]
            used[model.arm] = model
            served |= dict.fromkeys(tasks, model.arm)
            changes |= {task: model.changes[task] for task in tasks}
    prices = [_price(results, model, shown) for model in used.values()]
    whole = together([one for one in prices if one])
    return Grouping(
        models=len(used),
        groups=[model.tasks for model in used.values()],
        served=dict(sorted(served.items())),
        delta_m=float(np.mean(list(changes.values()))),
        seconds=whole.seconds,
        parameters=whole.parameters if all(prices) else None,
        predicted=[model.tasks for model in used.values() if model.predicted],
    )


def _price(results: Results, model: Model, shown: Sequence[Model]) -> Cost | None:
    """Return a model's cost; one not trained takes its pairs' time a task, and their size."""
    if not model.predicted:
        return cost(results, model.arm)
    group: Mapping[str, float] = model.changes
    pairs = [cost(results, one.arm) for one in shown if _is_pair_of(one, group)]
    known = [one for one in pairs if one]
    if not known:
        return None
    sizes = [one.parameters for one in known if one.parameters is not None]
    seconds = float(np.mean([one.seconds for one in known])) * len(group) / 2
    return Cost(seconds, round(float(np.mean(sizes))) if sizes else None, None)


def _is_pair_of(model: Model, group: Mapping[str, float]) -> bool:
    return len(model.tasks) == 2 and set(model.tasks) <= set(group)
