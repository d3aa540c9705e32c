"""Decides when an engine runs which of a study's jobs: some at a time, by needs, none twice."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal, Protocol
from uuid import uuid4

import pipeline
from pipeline.engines.engine import Engine, Handle, Outcome, TakenError
from pipeline.engines.local import THREADS
from pipeline.engines.process import failure_reason, is_taken
from pipeline.studies.jobs import Job
from pollinate.errors import PollinateError
from pollinate.program import SAFE_PATH_VARIABLE, current_folder

PAUSE = 0.1  # seconds between two looks at the processes
ELSEWHERE = 2.0  # seconds between two looks at a trial that another process is at work on
LOST = 3  # times in a row that a trial may be lost before it has taken another step
OVER = ("done", "failed")
JobState = Literal["waiting", "running", "elsewhere", "done", "failed"]


class SchedulerDisplay(Protocol):
    def started(self, work: ScheduledJob) -> None: ...

    def lost(self, work: ScheduledJob, message: str) -> None: ...

    def ended(self, work: ScheduledJob) -> None: ...

    def tick(self, works: Sequence[ScheduledJob]) -> None: ...


@dataclass
class ScheduledJob:
    """A job and where it stands.

    failures: sessions that have failed; message: why it failed; seconds: of all sessions.
    """

    job: Job
    state: JobState = "waiting"
    failures: int = 0
    losses: int = 0  # sessions that were lost since it took a step
    lost_at: int = 0  # step at which the last one was lost
    message: str | None = None
    handle: Handle | None = None
    resumed: bool = False  # the session under way goes on with what is there
    shown: bool = False  # its beginning was told
    timed_out: bool = False  # it was asked to stop since its time was over
    check_again_at: float = 0.0  # not looked at again before, in seconds of time.monotonic()
    earlier_seconds: float = 0.0  # seconds of earlier sessions
    seconds: float = 0.0
    found: bool = False  # this process had nothing to do for it
    checked: bool = False


@dataclass
class Limits:
    """jobs: at a time; retries: of a failed one; timeout: seconds of a job in all, None for none.

    folder: where processes work.
    """

    jobs: int
    retries: int
    timeout: float | None
    folder: Path


class Scheduler:
    """Runs jobs to their end.

    Args:
        jobs: in the order in which they are begun, if their needs allow it.
        engine: ready for orders.
        limits: of all jobs.
        display: is told what happens.
        stopping: says whether the user asked to stop.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        engine: Engine,
        limits: Limits,
        display: SchedulerDisplay,
        stopping: Callable[[], bool],
    ) -> None:
        self.works = [ScheduledJob(job) for job in jobs]
        self.engine = engine
        self.limits = limits
        self.display = display
        self.stopping = stopping
        self._by_path = {work.job.files.path: work for work in self.works}

    def run(self) -> bool:
        """Run until all is done or failed; False if the user stopped it."""
        try:
            while True:
                for work in self.works:
                    if work.handle is not None:
                        self._watch(work, work.handle)
                stopping = self.stopping()
                if not stopping:
                    self._start_ready()
                running = [work.handle for work in self.works if work.handle is not None]
                if not running and (stopping or all(work.state in OVER for work in self.works)):
                    return not stopping
                for handle in running if stopping else ():
                    handle.stop()
                self.display.tick(self.works)
                time.sleep(PAUSE)
        except BaseException:
            for work in self.works:
                if work.handle is not None:
                    work.handle.kill()
            raise

    def _start_ready(self) -> None:
        free = self.limits.jobs - sum(work.handle is not None for work in self.works)
        for work in self.works:
            if work.state not in ("waiting", "elsewhere") or not self._is_ready(work):
                continue
            known = work.checked
            work.checked = True
            if not known and work.job.is_finished():
                self._finish(work, found=True)
            elif free > 0 and time.monotonic() >= work.check_again_at:
                free -= self._start(work)

    def _is_ready(self, work: ScheduledJob) -> bool:
        needed = [self._by_path[files.path] for files in work.job.needs]
        failed = next((one for one in needed if one.state == "failed"), None)
        if failed is not None:
            self._fail(work, f"it needs {failed.job.title}, which failed")
            return False
        return all(one.state == "done" for one in needed)

    def _start(self, work: ScheduledJob) -> int:
        """Start a job unless a process is at it; return the number of orders given.

        Such a process was left by a study that was killed: it holds the trial's lock.
        """
        try:
            return 0 if is_taken(work.job.files.lock) else self._begin(work)
        except TakenError:
            return 0
        except PollinateError as error:
            self._fail(work, str(error))
            return 0
        finally:
            if work.state in ("waiting", "elsewhere"):
                self._leave(work)

    def _leave(self, work: ScheduledJob) -> None:
        """Leave a job to the process that is at it, for a while."""
        work.state, work.check_again_at = "elsewhere", time.monotonic() + ELSEWHERE

    def _begin(self, work: ScheduledJob) -> int:
        job = work.job
        if job.is_finished():  # by such a process, between two looks
            self._finish(work, found=True)
            return 0
        work.earlier_seconds = job.ledger().seconds
        if self.limits.timeout is not None and work.earlier_seconds >= self.limits.timeout:
            work.timed_out = True
            self._give_up(work, Outcome())
            return 0
        job.prepare()
        session = uuid4().hex
        threads = self.engine.threads(self.limits.jobs)
        order = job.order(session, self.limits.folder, own_variables(threads, self.limits.folder))
        job.ledger().begin(session)
        work.resumed = job.files.can_go_on()
        work.handle = self.engine.submit(order)
        work.state, work.shown = "running", False
        self._show(work, work.handle)
        return 1

    def _show(self, work: ScheduledJob, handle: Handle) -> None:
        if not work.shown and handle.seconds is not None:
            work.shown = True
            self.display.started(work)

    def _watch(self, work: ScheduledJob, handle: Handle) -> None:
        limit, outcome = self.limits.timeout, handle.poll()
        self._show(work, handle)
        if outcome is None:
            seconds = work.earlier_seconds + (handle.seconds or 0.0)
            if limit is not None and seconds > limit:
                work.timed_out = True
                handle.stop()
            return
        work.handle = None
        if work.job.is_finished():
            work.job.ledger().end("finished", None, outcome)
            self._finish(work)
        elif self.stopping() and not work.timed_out:
            work.job.ledger().end("interrupted", None, outcome)
            work.state = "waiting"
        elif outcome.taken:
            work.job.ledger().end("interrupted", outcome.message, outcome)
            self._leave(work)
        elif outcome.lost and not work.timed_out and self._may_be_lost(work):
            work.job.ledger().end("interrupted", outcome.message, outcome)
            work.state = "waiting"
            self.display.lost(work, str(outcome.message))
        else:
            self._give_up(work, outcome)

    def _may_be_lost(self, work: ScheduledJob) -> bool:
        """Say whether a trial that was lost begins again: one that kills its machines doesn't."""
        step = work.job.files.step()
        work.losses = 1 if step > work.lost_at else work.losses + 1
        work.lost_at = step
        return work.losses <= LOST

    def _give_up(self, work: ScheduledJob, outcome: Outcome) -> None:
        status, limit = ("timeout", self.limits.timeout) if work.timed_out else ("failed", None)
        message = outcome.message
        if message is None or work.timed_out:
            message = failure_reason(outcome.code, outcome.output, limit)
        if outcome != Outcome():  # a session has ended
            work.job.ledger().end(status, message, outcome)
        work.failures += 1
        if not work.timed_out and work.failures <= self.limits.retries:
            work.state, work.message = "waiting", message
            return
        self._fail(work, message, status)

    def _finish(self, work: ScheduledJob, found: bool = False) -> None:
        work.seconds, work.found = work.job.ledger().seconds, found
        try:
            work.job.wrap_up()
        except PollinateError as error:  # not _fail: what has finished would come back here
            self._lose(work, str(error))
            return
        work.state = "done"
        self.display.ended(work)

    def _fail(self, work: ScheduledJob, message: str, status: str = "failed") -> None:
        """Note that a job can't come to its end; a search goes on without it."""
        ledger = work.job.ledger()
        if (ledger.status, ledger.message) != (status, message):
            ledger.status, ledger.message = status, message
            ledger.save()
        if work.job.is_finished():
            self._finish(work)
        else:
            self._lose(work, message)

    def _lose(self, work: ScheduledJob, message: str) -> None:
        work.message, work.seconds = message, work.job.ledger().seconds
        work.state = "failed"
        self.display.ended(work)


def own_variables(threads: int, folder: Path) -> Mapping[str, str]:
    """Return what a trial's environment says besides that of its machine.

    Args:
        threads: of the process, unless the user has set them.
        folder: where it works. Another one than the user's is named by the study's file alone, so
            Python looks for no module there.
    """
    found = {THREADS: os.environ.get(THREADS, str(threads))}
    if folder.resolve() != current_folder():
        known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        paths = [str(Path(one).absolute()) for one in known if one]
        root = str(Path(pipeline.__file__).parents[1])
        found |= {SAFE_PATH_VARIABLE: "1", "PYTHONPATH": os.pathsep.join([root, *paths])}
    return found


def remaining_seconds(works: Sequence[ScheduledJob], jobs: int) -> float | None:
    """Return seconds until all is done, None where nothing is known.

    r sum_i t_i / jobs over what is left, where t_i is what job i was expected to take, less what it
    has taken, and r how much longer than expected the finished ones took.
    """
    done = [w for w in works if w.state == "done" and not w.found and w.seconds > 0]
    left = [w for w in works if w.state not in OVER]
    if not left:
        return 0.0
    ratio = slowdown(done)
    guesses = [w.job.expected for w in works if w.job.expected is not None]
    usual = fmean(w.seconds for w in done) if done else fmean(guesses) if guesses else None
    total = 0.0
    for work in left:
        expected = usual if work.job.expected is None else ratio * work.job.expected
        if expected is None:
            return None
        taken = work.handle.seconds if work.handle is not None else None
        total += max(0.0, expected - (taken or 0.0))
    return total / min(jobs, len(left))


def slowdown(done: Sequence[ScheduledJob]) -> float:
    """Return how many times longer than expected finished jobs took, 1 where none is known."""
    known = [w for w in done if w.job.expected]
    if not known:
        return 1.0
    return sum(w.seconds for w in known) / sum(w.job.expected or 0.0 for w in known)
