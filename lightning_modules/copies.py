"""Whose the encoded rows are: all tasks', or, under adapters of its own, one task's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from lightning_modules.trunks.base import Routes

EVERY = ""  # in place of a task
Copies = Mapping[str, tuple[str, str]]  # {key: (data set, the task that alone reads it or EVERY)}


def own(dataset: str, task: str) -> str:
    """Return the key of a data set's rows as one task alone reads them."""
    return f"{dataset}@{task}"


def copies(datasets: Collection[str], routed: Collection[str], routes: Routes) -> Copies:
    """Return what is encoded: a data set once, or, where it is routed, once for each task.

    Args:
        datasets: those of the step.
        routed: those of which an encoder has adapters a task.
        routes: {task: data sets}; a task's copies stand one after the other.
    """
    found = {name: (name, EVERY) for name in datasets if name not in routed}
    for task, names in routes.items():
        for name in names:
            if name in datasets and name in routed:
                found[own(name, task)] = name, task
    return found


def readable(keys: Collection[str], task: str, datasets: Sequence[str]) -> list[str]:
    """Return the keys under which a task finds its data sets' rows, in the same order."""
    return [key for name in datasets for key in (name, own(name, task)) if key in keys]


def separate(routes: Routes) -> list[list[str]]:
    """Part data sets so that no task has some in two parts: the fewest data sets in each."""
    parts: list[list[str]] = []
    for names in routes.values():
        touched = [part for part in parts if set(part) & set(names)]
        merged = dict.fromkeys(name for part in [*touched, list(names)] for name in part)
        parts = [part for part in parts if part not in touched] + [list(merged)]
    return parts
