"""One number a task that a user may give."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pipeline.errors import UsageError


def preferences(
    name: str, tasks: Sequence[str], given: Mapping[str, float], default: float, lowest: float
) -> dict[str, float]:
    """Return a number for every task.

    Args:
        name: of the option, for errors.
        tasks: names of all tasks of the run.
        given: {task: number}.
        default: of tasks that are not named.
        lowest: numbers must be above it.

    Raises:
        UsageError: an unknown task, or a number that is not finite or too small.
    """
    for task, number in given.items():
        if task not in tasks:
            raise UsageError(f"balancer.{name} names {task!r}; the tasks are {', '.join(tasks)}")
        if not (math.isfinite(number) and number > lowest):
            raise UsageError(f"balancer.{name}.{task} must be finite and > {lowest}, got {number}")
    return {task: float(given.get(task, default)) for task in tasks}
