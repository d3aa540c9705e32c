"""A unit of a study's work: one process, from its command to its result."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.engines.engine import Order
from pipeline.studies.arms import expected_seconds
from pipeline.studies.overrides import combined, refuse_commands, resume_overrides
from pipeline.studies.plan import StudyPlan, trial_files
from pipeline.studies.results import Arm
from pipeline.studies.trial_files import TrialFiles, TrialLedger
from pipeline.tracking.redact import redact_arguments
from pollinate.overrides import override
from pollinate.program import command_words


@dataclass
class JobContext:
    """What all jobs share.

    folder: of the study; launcher: starts a process; config_dirs: of the command line.
    parent: returns MLflow's id of the study's run, None as long as it isn't known.
    """

    folder: Path
    launcher: str = "python"
    config_dirs: Sequence[str] = ()
    parent: Callable[[], str | None] = lambda: None


@dataclass(kw_only=True)
class Job(ABC):
    """Something to run.

    title: for people; files: of its own; context: of the study.
    needs: files of jobs that must be finished before.
    expected: seconds that it may take, None if that isn't known; steps: that it takes.
    """

    title: str
    files: TrialFiles
    context: JobContext
    needs: list[TrialFiles] = field(default_factory=list)
    expected: float | None = None
    steps: int = 0

    @abstractmethod
    def is_finished(self) -> bool:
        """Say whether there is nothing left to do; looks at the folder."""

    @abstractmethod
    def arguments(self) -> list[str]:
        """Return module and overrides."""

    def resume_arguments(self) -> list[str] | None:
        """Return those that go on with what an earlier session left, None if nothing can."""
        return None

    def prepare(self) -> None:  # noqa: B027  # optional
        """Do what must be done right before the process is started."""

    def wrap_up(self) -> None:  # noqa: B027  # optional
        """Do what a finished or failed job leaves to do."""

    def command(self) -> list[str]:
        return self._launched(self.arguments())

    def order(self, session: str, folder: Path, variables: Mapping[str, str]) -> Order:
        """Return what an engine is to run.

        Args:
            session: of this order alone.
            folder: where the process works; variables: of its environment.
        """
        resume = self.resume_arguments()
        return Order(
            self.title,
            session,
            tuple(self.command()),
            None if resume is None else tuple(self._launched(resume)),
            begun=self.files.run.config,
            folder=folder,
            log=self.files.log,
            lock=self.files.lock,
            ledger=self.files.ledger,
            summary=self.files.run.summary,
            stop=self.files.stop,
            variables=variables,
        )

    def _launched(self, arguments: Sequence[str]) -> list[str]:
        return [*shlex.split(self.context.launcher), "-m", *arguments]

    @property
    def config_dirs(self) -> list[str]:
        return [f"--config-dir={folder}" for folder in self.context.config_dirs]

    def ledger(self) -> TrialLedger:
        return TrialLedger(self.files)


@dataclass(kw_only=True)
class FitJob(Job):
    """A run of pipeline.fit.

    base: overrides of every trial; own: of this one.
    """

    base: Sequence[str] = ()
    own: Sequence[str] = ()

    def is_finished(self) -> bool:
        return self.files.is_finished()

    def values(self) -> list[str]:
        return []

    def prepare(self) -> None:
        self.files.clear()

    def arguments(self) -> list[str]:
        return ["pipeline.fit", *self.config_dirs, *self.overrides(), self._run_dir]

    def resume_arguments(self) -> list[str]:
        told = combined(resume_overrides(self.base), self._parent())
        return ["pipeline.fit", *self.config_dirs, override("resume", self.files.path), *told]

    def overrides(self) -> list[str]:
        refuse_commands(f"{self.files.path}", [*self.own, *self.values()])
        name = override("name", self.name)
        return combined(self.base, self.own, self.values(), [name, *self._parent()])

    @property
    def _run_dir(self) -> str:
        return override("run_dir", self.files.path)

    @property
    def name(self) -> str:
        return f"{self.files.path.parent.name}-{self.files.path.name}"

    def _parent(self) -> list[str]:
        parent = self.context.parent()
        return [] if parent is None else [override("tracking.parent", parent)]

    def shown(self) -> list[str]:
        mine = combined(self.base, self.own, self.values())
        words = shlex.split(self.context.launcher)
        start = command_words("fit") if words == ["python"] else [*words, "-m", "pipeline.fit"]
        command = [*start, *self.config_dirs, *mine, self._run_dir]
        return redact_arguments(command)


@dataclass(kw_only=True)
class ArmJob(FitJob):
    """A run of an arm of a plan."""

    plan: StudyPlan = field(repr=False)
    arm: Arm


def arm_options(
    plan: StudyPlan, context: JobContext, arm: Arm, seed: int, source_seed: int
) -> dict[str, Any]:
    """Return what all runs of an arm have in common."""
    source = source_files(context.folder, arm, source_seed)
    return {
        "context": context,
        "needs": [] if source is None else [source],
        "expected": expected_seconds(arm, plan.facts, plan.budget),
        "steps": plan.facts.steps,
        "base": plan.base,
        "own": [*arm.overrides, *source_overrides(plan, arm, source), f"seed={seed}"],
        "plan": plan,
        "arm": arm,
    }


def source_files(folder: Path, arm: Arm, seed: int) -> TrialFiles | None:
    """Return the run that an arm's run begins from: of its source's task, with all labels."""
    return None if arm.source is None else trial_files(folder, f"single_task:{arm.source}", seed)


def source_overrides(plan: StudyPlan, arm: Arm, source: TrialFiles | None) -> list[str]:
    """Return what names that model; the target reads its texts as the source does."""
    if source is None or arm.source is None:
        return []
    texts = all("text" in plan.facts.tasks[name].modalities for name in (*arm.tasks, arm.source))
    alike = (
        [override("data.text.tokenizer", source.path)] if texts and plan.facts.learns_tokens else []
    )
    return [override("transfer.source", source.path), *alike]
