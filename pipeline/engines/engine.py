"""What runs processes, here or on other machines, for a study that says which and when."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pollinate.errors import PollinateError

PYTHON = "python"  # as a command's first word: the interpreter of the machine that runs it


@dataclass(frozen=True)
class Order:
    """A process to run, and the files by which it is known wherever it runs.

    title: for people; session: of this order alone.
    command: its words; resume: those where ``begun`` exists, None if it can't go on.
    folder: where it works; log: what its output is added to.
    lock: held as long as it runs; ledger: JSON whose ``session`` is that of the last order.
    summary: JSON whose ``status`` is finished where nothing is left to do.
    stop: a file that appears when it is asked to save and stop.
    variables: of its environment, besides those of its machine.
    """

    title: str
    session: str
    command: tuple[str, ...]
    resume: tuple[str, ...] | None
    begun: Path
    folder: Path
    log: Path
    lock: Path
    ledger: Path
    summary: Path
    stop: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def words(self) -> tuple[str, ...]:
        """Return the command, by what an earlier session left."""
        return self.resume if self.resume is not None and self.begun.is_file() else self.command


@dataclass(frozen=True)
class Outcome:
    """How a session ended.

    code: exit code, minus the number of a signal that ended it; None: nobody knows, or it never
        began.
    seconds: that it ran; memory: most bytes that it held, None where that isn't measured.
    output: the end of what it said; message: what the engine says of it.
    lost: what it ran on is gone, and it can go on elsewhere.
    taken: another process is at the same work.
    """

    code: int | None = None
    seconds: float = 0.0
    memory: int | None = None
    output: str = ""
    message: str | None = None
    lost: bool = False
    taken: bool = False


class TakenError(PollinateError):
    """Another process is at the same work."""


class Handle(ABC):
    """An order that was submitted."""

    @property
    @abstractmethod
    def seconds(self) -> float | None:
        """Seconds that it has run, None as long as it waits for a place."""

    @abstractmethod
    def poll(self) -> Outcome | None:
        """Return how it ended, None before."""

    @abstractmethod
    def stop(self) -> None:
        """Ask it to save and stop; one that waits for a place is withdrawn. May be said again."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once."""


class Engine(ABC):
    """Runs orders. The process is the same everywhere: a command, with its files in one folder.

    Examples:
        >>> import pollinate as po
        >>> isinstance(po.engines.LocalEngine(), po.engines.Engine)
        True
    """

    def check(self) -> None:  # noqa: B027  # optional
        """Fail, within seconds and before anything is started, where it can't run anything.

        Raises:
            PollinateError: with what to do.
        """

    def open(self, folder: Path) -> None:  # noqa: B027  # optional
        """Make ready for orders.

        Args:
            folder: what an engine writes goes below it.

        Raises:
            PollinateError: it can't run anything, or has nowhere what an order needs.
        """

    def close(self) -> None:  # noqa: B027  # optional
        """Give back what ``open`` took."""

    @abstractmethod
    def threads(self, jobs: int) -> int:
        """Return how many threads each of ``jobs`` processes should have."""

    @abstractmethod
    def submit(self, order: Order) -> Handle:
        """Have a process run as soon as there is a place for it.

        Raises:
            TakenError: another process is at it.
            PollinateError: it can't be started.
        """
