"""Each task alone, with the same share of the labels."""

from __future__ import annotations

from pipeline.studying.results import Arm, Results


def baselines(results: Results) -> dict[tuple[str, float], str]:
    """Return {(task, share of the labels): the arm that trains it alone}."""
    return {
        (arm.tasks[0], arm.labels): name
        for name, arm in results.arms.items()
        if arm.kind == "alone" and arm.tasks
    }


def compared(results: Results) -> dict[str, Arm]:
    """Return the arms that are compared with each of their tasks alone."""
    return {name: arm for name, arm in results.arms.items() if arm.kind != "alone"}


def full(results: Results) -> float:
    """Return the largest share of the labels that was tried."""
    return max((arm.labels for arm in results.arms.values()), default=1.0)
