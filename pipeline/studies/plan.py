"""What a study will run: decided once, kept in its folder, the same for all its processes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.studies.results import Arm
from pipeline.studies.trial_files import TrialFiles, read_json, safe_name
from pipeline.text_format import relpath
from pollinate.errors import PollinateError
from pollinate.files import write_json
from pollinate.overrides import override
from pollinate.program import shell_command


@dataclass(frozen=True)
class TaskFacts:
    """datasets: of the task; modalities: of its rows; metric: its score.

    tested: whether test rows have labels, so that there is a test score.
    """

    datasets: list[str]
    modalities: list[str]
    metric: str
    tested: bool


@dataclass(frozen=True)
class MultiTaskFacts:
    """The multi-task run's size.

    rows: {data set: rows a step}; batch_size: rows a step that the sampler is asked for.
    steps_per_epoch: of the sampler; steps: of the optimizer, in all.
    evaluated: {data set: rows that are scored in the whole run}.
    learns_tokens: whether a tokenizer is trained on the run's own texts.
    start: seconds that a trial needs before its first step.
    step: seconds of a multi-task step on this machine; None: it couldn't be timed.
    """

    tasks: dict[str, TaskFacts]
    rows: dict[str, int]
    batch_size: int
    steps_per_epoch: int
    steps: int
    evaluated: dict[str, int]
    learns_tokens: bool
    start: float = 0.0
    step: float | None = None
    notes: list[str] = field(default_factory=list)

    def datasets(self, tasks: tuple[str, ...]) -> list[str]:
        """Return the data sets that some tasks need, in the data's order."""
        needed = {name for task in tasks for name in self.tasks[task].datasets}
        return [name for name in self.rows if name in needed]


def facts_from(plain: Mapping[str, Any]) -> MultiTaskFacts:
    tasks = {name: TaskFacts(**own) for name, own in plain["tasks"].items()}
    return MultiTaskFacts(**{**plain, "tasks": tasks})


def optimizer_steps(trainer: Mapping[str, Any], epoch: int) -> int:
    batches = limited_steps(epoch, trainer.get("limit_train_batches"))
    each = math.ceil(batches / (trainer.get("accumulate_grad_batches") or 1))
    epochs, most = trainer.get("max_epochs"), trainer.get("max_steps")
    known = [each * epochs] if epochs is not None and epochs >= 0 else []
    known += [most] if most is not None and most >= 0 else []
    return int(min(known, default=0))


def limited_steps(epoch: int, limit: float | None) -> int:
    """Return an epoch's steps under ``limit_train_batches``: a number of them, or a share."""
    if limit is None:
        return epoch
    return min(epoch, limit) if isinstance(limit, int) else int(epoch * limit)


PLAN = "study.json"
FORMAT = 1


@dataclass
class StudyPlan:
    """A study as its folder says it.

    name: of the study; seeds: of every arm.
    overrides: the command line that says what the study is; base: those of every trial.
    config_dirs, folder: of the command line.
    facts: of the multi-task run; arms: {name: arm}.
    budget, search, predictors: as configured.
    chosen: what a preset chose for all trials, which ``base`` has; None: each chooses for itself,
        as in a study of an earlier version.
    """

    name: str
    seeds: list[int]
    overrides: list[str]
    base: list[str]
    config_dirs: list[str]
    folder: str
    facts: MultiTaskFacts
    arms: dict[str, Arm]
    budget: str
    search: dict[str, Any] | None = None
    predictors: list[str] = field(default_factory=list)
    chosen: list[str] | None = None

    def save(self, folder: Path) -> None:
        # trials are started with these overrides, and a password may be among them
        write_json(folder / PLAN, {"format": FORMAT, **asdict(self)}, private=True)


def read_plan(file: Path, version: int) -> dict[str, Any] | None:
    """Return what a plan's file says, None if there is none.

    Raises:
        PollinateError: it can't be read, or is of another version.
    """
    plain = read_json(file)
    if plain is None:
        return None
    if not isinstance(plain, dict) or plain.pop("format", None) != version:
        raise PollinateError(
            f"{file} is of another version of pollinate; use that one, or a new run_dir"
        )
    return plain


def load_plan(folder: Path) -> StudyPlan | None:
    """Return the plan of a study's folder, None if it has none."""
    plain = read_plan(folder / PLAN, FORMAT)
    if plain is None:
        return None
    try:
        arms = {name: arm_from(own) for name, own in plain["arms"].items()}
        plan = StudyPlan(**{**plain, "facts": facts_from(plain["facts"]), "arms": arms})
        texts = [*plan.overrides, *plan.base, *plan.config_dirs, plan.folder, *(plan.chosen or ())]
        texts += [text for arm in arms.values() for text in arm.overrides]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PollinateError(f"{folder / PLAN} is no plan of a study: {error!r}") from error
    if not all(isinstance(text, str) for text in texts):
        raise PollinateError(f"{folder / PLAN} is no plan of a study: its words must be texts")
    return plan


def study_resume_command(folder: Path, own: Sequence[str]) -> str:
    """Return the command that goes on with a study.

    Args:
        folder: of the study.
        own: what only a command line can say, and so must say again.
    """
    return shell_command("study", override("resume", relpath(folder)), *own)


def arm_from(plain: dict[str, Any]) -> Arm:
    weights = tuple((task, weight) for task, weight in plain["weights"])
    own = {key: tuple(plain[key]) for key in ("tasks", "overrides")}
    return Arm(**{**plain, **own, "weights": weights})


def trial_files(folder: Path, arm: str, seed: int) -> TrialFiles:
    return TrialFiles(folder / "trials" / safe_name(arm) / f"seed-{seed}")


def search_files(folder: Path, arm: str, number: int) -> TrialFiles:
    return TrialFiles(folder / "search" / safe_name(arm) / f"trial-{number}")
