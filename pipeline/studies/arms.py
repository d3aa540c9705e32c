"""The arms of a study, all trained with the same budget of rows or of steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, permutations
from typing import Any

from pipeline.configuration.study_rules import ALL
from pipeline.studies.plan import MultiTaskFacts
from pipeline.studies.results import Arm
from pollinate.errors import UsageError
from pollinate.overrides import override

ROWS, STEPS = "rows", "steps"


def rows_per_step(tasks: tuple[str, ...], facts: MultiTaskFacts, budget: str) -> int:
    """Return how many rows a step of some tasks has.

    ``rows``: B_arm = sum over the arm's data sets d of b_d, where b_d is how many rows of d a step
    of the multi-task run has. ``steps``: the multi-task run's B.
    """
    if budget == STEPS:
        return facts.batch_size
    return sum(facts.rows[name] for name in facts.datasets(tasks))


def budget_overrides(tasks: tuple[str, ...], facts: MultiTaskFacts, budget: str) -> tuple[str, ...]:
    return (
        override("tasks", tasks),
        f"sampler.batch_size={rows_per_step(tasks, facts, budget)}",
        f"sampler.steps_per_epoch={facts.steps_per_epoch}",
    )


def expected_seconds(arm: Arm, facts: MultiTaskFacts, budget: str) -> float | None:
    """Return how long a run of an arm may take; None where no step was timed.

    A row costs what it costs in the multi-task run, and a third of that where it is only scored.
    """
    if facts.step is None:
        return None
    row = facts.step / max(1, sum(facts.rows.values()))
    trained = facts.steps * rows_per_step(arm.tasks, facts, budget)
    scored = sum(facts.evaluated[name] for name in facts.datasets(arm.tasks))
    return facts.start + row * (trained + scored / 3)


SHARED = (
    "single_task",
    "multi_task",
    "variant",
    "transfer",
)  # kinds that are tried with fewer labels, too
EQUAL = ("balancer=equal",)


def arms_of(study: Mapping[str, Any], facts: MultiTaskFacts) -> dict[str, Arm]:
    """Return {name: arm}, single-task ones first, in the order in which they are run."""
    full = [
        *_single_task_arms(study, facts),
        *_multi_task_arms(study, facts),
        *_pair_arms(study, facts),
        *_group_arms(study, facts),
        *_transfer_arms(study, facts),
    ]
    few = [
        replace(
            arm,
            name=f"{arm.name}@{share:.6g}",
            labels=share,
            overrides=(*arm.overrides, override("label_fraction", share)),
        )
        for share in sorted(study["label_fractions"])
        for arm in full
        if arm.kind in SHARED
    ]
    budgeted = (
        replace(
            arm,
            overrides=(*arm.overrides, *budget_overrides(arm.tasks, facts, study["budget"])),
        )
        for arm in (*full, *few)
    )
    return {arm.name: arm for arm in budgeted}


def variants_of(study: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {
        str(name): tuple(given.split() if isinstance(given, str) else given)
        for name, given in study["variants"].items()
    }


def _single_task_arms(study: Mapping[str, Any], facts: MultiTaskFacts) -> Iterator[Arm]:
    # there is nothing to balance, and a weight would be a change of the learning rate
    for task in facts.tasks if study["single_task"] else ():
        yield Arm(f"single_task:{task}", "single_task", (task,), EQUAL)


def _multi_task_arms(study: Mapping[str, Any], facts: MultiTaskFacts) -> Iterator[Arm]:
    tasks = tuple(facts.tasks)
    if study["multi_task"]:
        yield Arm("multi_task", "multi_task", tasks)
    for name, overrides in variants_of(study).items():
        yield Arm(name, "variant", tasks, overrides)


def _pair_arms(study: Mapping[str, Any], facts: MultiTaskFacts) -> Iterator[Arm]:
    for pair in chosen_pairs(study["pairs"], list(combinations(facts.tasks, 2))):
        first, second = pair
        for weight in study["pair_weights"]:
            if weight == 1:
                yield Arm(f"pair:{first}+{second}", "pair", pair)
                continue
            # each of the two is the other's source in turn
            yield _weighted_pair(f"pair:{first}+{weight:g}*{second}", pair, (1.0, weight))
            yield _weighted_pair(f"pair:{weight:g}*{first}+{second}", pair, (weight, 1.0))


def _weighted_pair(name: str, pair: tuple[str, ...], weights: tuple[float, float]) -> Arm:
    given = tuple(zip(pair, weights, strict=True))
    overrides = ("balancer=fixed", override("balancer.task_weights", dict(given)))
    return Arm(name, "pair", pair, overrides, weights=given)


def _group_arms(study: Mapping[str, Any], facts: MultiTaskFacts) -> Iterator[Arm]:
    for names in study["groups"]:
        group = tuple(task for task in facts.tasks if task in names)
        yield Arm(f"group:{'+'.join(group)}", "group", group)


def _transfer_arms(study: Mapping[str, Any], facts: MultiTaskFacts) -> Iterator[Arm]:
    every = study["transfers"] == ALL
    for source, target in chosen_pairs(study["transfers"], list(permutations(facts.tasks, 2))):
        alike = [m for m in facts.tasks[target].modalities if m in facts.tasks[source].modalities]
        if not alike and every:
            continue
        if not alike:
            theirs = [" and ".join(facts.tasks[name].modalities) for name in (source, target)]
            raise UsageError(
                f"study.transfers: {source} reads {theirs[0]} and {target} {theirs[1]}, so no "
                "encoder can be taken over; leave this one out"
            )
        parts = [*(f"encoders.{name}" for name in alike), "trunk"]
        overrides = (*EQUAL, "transfer=init", override("transfer.parts", parts))
        name = f"transfer:{source}>{target}"
        yield Arm(name, "transfer", (target,), overrides, source=source)


def chosen_pairs(
    given: str | Sequence[Sequence[str]] | None, every: Sequence[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """Return the pairs of a configuration: all, a list, or none; one named twice counts once."""
    if given is None:
        return []
    if given == ALL:
        return list(every)
    order = {frozenset(pair): pair for pair in every}
    ordered = {tuple(pair) for pair in every}
    found = [tuple(p) if tuple(p) in ordered else order[frozenset(p)] for p in given]
    return list(dict.fromkeys(found))
