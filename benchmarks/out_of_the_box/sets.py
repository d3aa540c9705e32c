"""The sets that are measured, and a task file of each, as a user would write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pollinate.files import write_text

SETS: dict[str, dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("sets.yaml").read_text(encoding="utf-8")
)


def write_task_files(names: list[str], data: Path, folder: Path) -> dict[str, Path]:
    """Write ``folder/NAME.yaml`` for each of these sets that is there; return {name: its file}.

    The project's sources read the sets as they lie, so that a task file is all the preparation.

    Args:
        names: of ``SETS``.
        data: the folder with the sets.
        folder: of the task files.
    """
    found = {}
    for name in names:
        tasks = with_paths(SETS[name], data)
        if is_there(tasks):
            found[name] = folder / f"{name}.yaml"
            write_text(found[name], yaml.safe_dump(tasks, sort_keys=False, allow_unicode=True))
    return found


def with_paths(tasks: Mapping[str, Any], data: Path) -> dict[str, Any]:
    """Return what a task file holds, with paths that hold from every folder."""
    datasets = {
        name: {**spec, "path": str((data / spec["path"]).resolve())} if "path" in spec else spec
        for name, spec in tasks["datasets"].items()
    }
    return {**tasks, "datasets": datasets}


def is_there(tasks: Mapping[str, Any]) -> bool:
    """Say whether all files of a set are there; the quickstart's are inside packages."""
    return all(Path(spec["path"]).exists() for spec in tasks["datasets"].values() if "path" in spec)


def reads_any(tasks: Mapping[str, Any], task: str, modalities: Sequence[str]) -> bool:
    """Say whether a task's rows have one of these modalities."""
    inputs = tasks["datasets"][tasks["tasks"][task]["dataset"]]["inputs"]
    return any(modality in inputs for modality in modalities)
