"""The same budget for every arm, in rows or in steps."""

from __future__ import annotations

from pipeline.studying.facts import Facts
from pipeline.studying.results import Arm

ROWS, STEPS = "rows", "steps"


def rows_per_step(tasks: tuple[str, ...], facts: Facts, budget: str) -> int:
    """Return how many rows a step of some tasks has.

    ``rows``: B_arm = sum over the arm's data sets d of b_d, where b_d is how many rows of d a step
    of the joint run has. ``steps``: the joint run's B.

    Args:
        tasks: of the arm.
        facts: of the joint run.
        budget: one of the two.
    """
    if budget == STEPS:
        return facts.batch_size
    return sum(facts.rows[name] for name in facts.datasets(tasks))


def budget_overrides(tasks: tuple[str, ...], facts: Facts, budget: str) -> tuple[str, ...]:
    """Return what gives a run of some tasks the joint run's steps, and its rows a step."""
    return (
        f"tasks=[{','.join(tasks)}]",
        f"sampler.batch_size={rows_per_step(tasks, facts, budget)}",
        f"sampler.steps_per_epoch={facts.steps_per_epoch}",
    )


def seconds(arm: Arm, facts: Facts, budget: str) -> float | None:
    """Return how long a run of an arm may take; None where no step was timed.

    A row costs what it costs in the joint run, and a third of that where it is only scored.
    """
    if facts.step is None:
        return None
    row = facts.step / max(1, sum(facts.rows.values()))
    trained = facts.steps * rows_per_step(arm.tasks, facts, budget)
    scored = sum(facts.evaluated[name] for name in facts.datasets(arm.tasks))
    return facts.start + row * (trained + scored / 3)
