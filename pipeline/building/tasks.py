"""A configuration becomes tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning_modules.tasks.base import Task
from pipeline.instantiate import instantiate

Config = Mapping[str, Any]


def build_tasks(config: Config) -> dict[str, Task]:
    """Return {name: task}, without vocabulary yet."""
    allow = config["allow_targets"]
    return {
        name: instantiate(spec["type"], allow, f"data.tasks.{name}.type")
        for name, spec in config["data"]["tasks"].items()
    }


def task_datasets(spec: Config) -> tuple[str, ...]:
    """Return the names of a task's data sets, those without labels last."""
    return (*names_in(spec.get("dataset", ())), *names_in(spec.get("unlabelled", ())))


def names_in(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return what a user gave as one name, or as several."""
    return (given,) if isinstance(given, str) else tuple(given)
