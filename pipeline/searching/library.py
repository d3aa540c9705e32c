"""Everything that a search has trained, by what it answers to the rows of validation and test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lightning_modules.tasks.base import Task
from pipeline.run_folder import RunFolder
from pipeline.searching.selection import Judge
from pollinate.errors import PollinateError

LINEAR = "linear"
JOINT = "joint"  # the run of all tasks, by the search's own recipe


def joint(recipe: str | None) -> str:
    """Return the name of the run of all tasks by a recipe, None for the search's own."""
    return JOINT if recipe is None else f"{JOINT}-{recipe}"


def alone(task: str) -> str:
    """Return the name of the run of one task alone."""
    return f"alone-{task}"


@dataclass(frozen=True)
class Answers:
    """What models answer to the labelled rows of a task in one split.

    outputs: {model: (N, ...)}; target: (N, ...).
    """

    outputs: Mapping[str, Tensor]
    target: Tensor

    def scores(self, task: Task) -> dict[str, float]:
        """Return each model's score."""
        judge = Judge(task, self.target)
        return {name: judge(output)[0] for name, output in self.outputs.items()}


def read_answers(folders: Mapping[str, Path], split: str, tasks: list[str]) -> dict[str, Answers]:
    """Return {task: what all models that learnt it answer}.

    Args:
        folders: {model: its run folder}, which keeps its outputs.
        split: valid or test.
        tasks: wanted; those without labelled rows in the split are left out.

    Raises:
        PollinateError: a folder lacks them, or models were measured on other rows.
    """
    found: dict[str, dict[str, Tensor]] = {task: {} for task in tasks}
    targets: dict[str, Tensor] = {}
    for name, folder in folders.items():
        file = RunFolder(folder).outputs(split)
        if not file.is_file():
            raise PollinateError(
                f"{file} is gone, so what {name} answers isn't known; remove {folder} and resume "
                "the search, which trains it again"
            )
        for task, own in torch.load(file, weights_only=True).items():
            if task not in found or not len(own["target"]):
                continue  # none of its rows is labelled
            known = targets.setdefault(task, own["target"])
            if not torch.equal(known, own["target"]):
                raise PollinateError(
                    f"{file} is of other rows of {task} than the other models'; the data have "
                    "changed since the search began: start it anew in a new run_dir"
                )
            found[task][name] = own["output"]
    return {task: Answers(own, targets[task]) for task, own in found.items() if task in targets}
