"""A unit of a study's work: one process, from its command to what came of it."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.studying.overrides import again, combined
from pipeline.studying.place import Ledger, Place
from pipeline.tracking.redact import redact_text


@dataclass
class Setting:
    """What all jobs of this machine share.

    folder: of the study; launcher: starts a process; config_dirs: of the command line.
    parent: returns MLflow's id of the study's run, None as long as it isn't known.
    """

    folder: Path
    launcher: str = "python"
    config_dirs: Sequence[str] = ()
    parent: Callable[[], str | None] = lambda: None


@dataclass
class Job(ABC):
    """Something to run.

    title: for people; place: of its files; setting: of the machine.
    needs: places of jobs that must be finished before.
    expected: seconds that it may take, None if that isn't known; steps: that it takes.
    """

    title: str
    place: Place
    setting: Setting
    needs: list[Place] = field(default_factory=list)
    expected: float | None = None
    steps: int = 0

    @abstractmethod
    def is_finished(self) -> bool:
        """Say whether there is nothing left to do; looks at the folder."""

    @abstractmethod
    def arguments(self) -> list[str]:
        """Return module and overrides; what an earlier session left is made use of."""

    def prepare(self) -> None:  # noqa: B027  # optional
        """Do what must be done right before the process is started, with its lock taken."""

    def wrap_up(self) -> None:  # noqa: B027  # optional
        """Do what a finished or failed job leaves to do, with its lock taken."""

    def command(self, python: str) -> list[str]:
        """Return the command; ``python`` stands for a launcher that is called so."""
        words = shlex.split(self.setting.launcher)
        launcher = [python] if words == ["python"] else words
        return [*launcher, "-m", *self.arguments()]

    def ledger(self) -> Ledger:
        """Return what is known of the sessions."""
        return Ledger(self.place)


@dataclass
class FitJob(Job):
    """A run of pipeline.fit.

    base: overrides of every trial; own: of this one.
    """

    base: Sequence[str] = ()
    own: Sequence[str] = ()

    def is_finished(self) -> bool:
        """Say whether the run is."""
        return self.place.is_finished()

    def values(self) -> list[str]:
        """Return overrides that are known only when the run begins."""
        return []

    def prepare(self) -> None:
        """Clear what was stopped before it began."""
        self.place.clear()

    def arguments(self) -> list[str]:
        """Return what begins the run, or goes on with it."""
        dirs = [f"--config-dir={folder}" for folder in self.setting.config_dirs]
        if self.place.can_go_on():
            told = combined(again(self.base), self._parent())
            return ["pipeline.fit", *dirs, f"resume={self.place.path}", *told]
        return ["pipeline.fit", *dirs, *self.overrides(), f"run_dir={self.place.path}"]

    def overrides(self) -> list[str]:
        """Return all that makes the run, but its folder."""
        name = f"name={self.name}"
        return combined(self.base, self.own, self.values(), [name, *self._parent()])

    @property
    def name(self) -> str:
        """Name of the run on MLflow's pages."""
        return f"{self.place.path.parent.name}-{self.place.path.name}"

    def _parent(self) -> list[str]:
        parent = self.setting.parent()
        return [] if parent is None else [f"tracking.parent={parent}"]

    def shown(self) -> list[str]:
        """Return the command that repeats the run, without secrets."""
        dirs = [f"--config-dir={folder}" for folder in self.setting.config_dirs]
        mine = combined(self.base, self.own, self.values())
        words = shlex.split(self.setting.launcher)
        command = [*words, "-m", "pipeline.fit", *dirs, *mine, f"run_dir={self.place.path}"]
        return [redact_text(word) for word in command]
