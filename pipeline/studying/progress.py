"""What a person sees while a study runs: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.studying.forecast import duration, remaining
from pipeline.studying.scheduler import Work

EVERY = 0.5  # seconds between two looks at the steps


class Progress:
    """Tells of jobs as they start and end.

    Args:
        console: where to write.
        jobs: that run at a time.
    """

    def __init__(self, console: Console, jobs: int) -> None:
        self.console = console
        self.jobs = jobs
        self._works: Sequence[Work] = ()
        self._live: Live | None = None
        self._drawn = 0.0

    def __enter__(self) -> Progress:
        """Show the table."""
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the table away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def started(self, work: Work) -> None:
        """Say so."""
        again = f", attempt {work.attempts}" if work.attempts > 1 else ""
        goes_on = "goes on" if work.job.place.can_go_on() else "started"
        if self._live is None:
            self._say(f"{goes_on}: {work.job.title}{again}")

    def ended(self, work: Work) -> None:
        """Say how."""
        if work.found:
            return
        if work.state == "failed":
            self._say(f"failed: {work.job.title}: {work.message}")
            return
        self._say(f"done: {work.job.title} in {duration(work.seconds)}{self._rest()}")

    def tick(self, works: Sequence[Work]) -> None:
        """Draw the table anew, now and then."""
        self._works = works
        now = time.monotonic()
        if self._live is not None and now - self._drawn >= EVERY:
            self._drawn = now
            self._live.update(Group(*self._lines()), refresh=True)

    def _rest(self) -> str:
        """Return how much is left, for the end of a line."""
        counts = Counter(work.state for work in self._works)
        if not counts:
            return ""
        left = sum(counts.values()) - counts["done"] - counts["failed"]
        seconds = remaining(self._works, self.jobs)
        about = "" if seconds is None or not left else f", about {duration(seconds)}"
        return f" ({counts['done']} done, {counts['failed']} failed, {left} left{about})"

    def _lines(self) -> list[Table | Text]:
        table = Table(box=None, pad_edge=False, show_header=False)
        for work in self._works:
            if work.child is not None:
                steps, total = work.job.place.step(), max(1, work.job.steps)
                table.add_row(
                    escape(work.job.title),
                    ProgressBar(total=total, completed=min(steps, total), width=24),
                    f"step {steps:,} of {work.job.steps:,}" if work.job.steps else "",
                    duration(work.child.seconds),
                )
            elif work.state == "elsewhere":
                table.add_row(escape(work.job.title), "", "another process is at it", "")
        return [table, Text(self._rest().strip(" ()"), style="bold")]

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)
