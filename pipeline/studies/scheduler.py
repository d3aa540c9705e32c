"""Runs a study's jobs: some at a time, in the order of their needs, none twice."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal, Protocol

import pipeline
from pipeline.run_folder import RUN_DIR_VARIABLE
from pipeline.studies.jobs import Job
from pipeline.studies.process import ChildProcess, ProcessLock, failure_reason
from pollinate.errors import PollinateError
from pollinate.program import SAFE_PATH_VARIABLE, current_folder

PAUSE = 0.1  # seconds between two looks at the processes
ELSEWHERE = 2.0  # seconds between two looks at a trial that another process is at work on
THREADS = "OMP_NUM_THREADS"
OVER = ("done", "failed")
JobState = Literal["waiting", "running", "elsewhere", "done", "failed"]


class SchedulerDisplay(Protocol):
    def started(self, work: ScheduledJob) -> None: ...

    def ended(self, work: ScheduledJob) -> None: ...

    def tick(self, works: Sequence[ScheduledJob]) -> None: ...


@dataclass
class ScheduledJob:
    """A job and where it stands.

    attempts: sessions begun by this process; message: why it failed; seconds: of all sessions.
    """

    job: Job
    state: JobState = "waiting"
    attempts: int = 0
    message: str | None = None
    child: ChildProcess | None = None
    timed_out: bool = False  # it was asked to stop since its time was over
    check_again_at: float = 0.0  # not looked at again before, in seconds of time.monotonic()
    earlier_seconds: float = 0.0  # seconds of earlier sessions
    seconds: float = 0.0
    found: bool = False  # this process had nothing to do for it
    checked: bool = False


@dataclass
class Limits:
    """jobs: at a time; retries: of a failed one; timeout: seconds of a job in all, None for none.

    folder: where processes work; python: the interpreter.
    """

    jobs: int
    retries: int
    timeout: float | None
    folder: Path
    python: str = sys.executable


class Scheduler:
    """Runs jobs to their end."""

    def __init__(
        self,
        jobs: Sequence[Job],
        limits: Limits,
        display: SchedulerDisplay,
        stopping: Callable[[], bool],
    ) -> None:
        self.works = [ScheduledJob(job) for job in jobs]
        self.limits = limits
        self.display = display
        self.stopping = stopping
        self.begun = time.time()
        self._by_path = {work.job.files.path: work for work in self.works}

    def run(self) -> bool:
        """Run until all is done or failed; False if the user stopped it."""
        try:
            while True:
                for work in self.works:
                    if work.child is not None:
                        self._watch(work)
                stopping = self.stopping()
                if not stopping:
                    self._start_ready()
                running = [work for work in self.works if work.child is not None]
                if not running and (stopping or all(work.state in OVER for work in self.works)):
                    return not stopping
                for work in running if stopping else ():
                    assert work.child is not None, "those that run have one"
                    work.child.ask()
                self.display.tick(self.works)
                time.sleep(PAUSE)
        except BaseException:
            for work in self.works:
                if work.child is not None:
                    work.child.kill()
            raise

    def _start_ready(self) -> None:
        free = self.limits.jobs - sum(work.child is not None for work in self.works)
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
        """Start a job unless another process is at it; return the number of processes started."""
        lock = ProcessLock(work.job.files.lock)
        if not lock.acquire():
            work.state, work.check_again_at = "elsewhere", time.monotonic() + ELSEWHERE
            return 0
        try:
            return self._begin(work, lock)
        except PollinateError as error:
            self._fail(work, str(error))
            return 0
        finally:
            lock.release()

    def _begin(self, work: ScheduledJob, lock: ProcessLock) -> int:
        job = work.job
        ledger = job.ledger()
        if job.is_finished():  # by another process, between two looks
            self._finish(work, found=True)
            return 0
        elsewhere = ledger.status in ("failed", "timeout") and ledger.ended > self.begun
        if elsewhere and work.attempts == 0:
            self._fail(work, ledger.message or "it failed elsewhere", str(ledger.status))
            return 0
        work.earlier_seconds = ledger.seconds
        if self.limits.timeout is not None and work.earlier_seconds >= self.limits.timeout:
            work.timed_out = True
            self._give_up(work)
            return 0
        job.prepare()
        command = job.command(self.limits.python)
        ledger = job.ledger()
        ledger.begin()
        try:
            work.child = ChildProcess(
                command,
                job.files.log,
                lock,
                process_environment(self.limits.jobs, self.limits.folder),
                self.limits.folder,
                measured=command[0] == self.limits.python,
            )
        except OSError as error:
            raise PollinateError(f"{command[0]} can't be started: {error.strerror}") from error
        work.state, work.attempts = "running", work.attempts + 1
        self.display.started(work)
        return 1

    def _watch(self, work: ScheduledJob) -> None:
        child, limit = work.child, self.limits.timeout
        assert child is not None, "it runs"
        code = child.ended()
        if code is None:
            seconds = work.earlier_seconds + child.seconds
            if limit is not None and not work.timed_out and seconds > limit:
                work.timed_out = True
                child.ask()
            return
        work.child = None
        if work.job.is_finished():
            work.job.ledger().end("finished", None, child.memory)
            self._finish(work)
        elif self.stopping() and not work.timed_out:
            work.job.ledger().end("interrupted", None, child.memory)
            work.state = "waiting"
        else:
            self._give_up(work, code, child)

    def _give_up(
        self, work: ScheduledJob, code: int | None = None, child: ChildProcess | None = None
    ) -> None:
        status, limit = ("timeout", self.limits.timeout) if work.timed_out else ("failed", None)
        message = failure_reason(code, child.output() if child else "", limit)
        if child is not None:
            work.job.ledger().end(status, message, child.memory)
        if not work.timed_out and work.attempts <= self.limits.retries:
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


def process_environment(jobs: int, folder: Path) -> Mapping[str, str]:
    """Return a process's variables: its part of the processor's cores, unless that is set.

    Args:
        jobs: processes at a time.
        folder: where they work. Another one than the user's is named by the study's file alone, so
            Python looks for no module there.
    """
    known = {key: value for key, value in os.environ.items() if key != RUN_DIR_VARIABLE}
    if folder.resolve() != current_folder():
        paths = [
            str(Path(one).absolute())
            for one in known.get("PYTHONPATH", "").split(os.pathsep)
            if one
        ]
        root = str(Path(pipeline.__file__).parents[1])
        known |= {SAFE_PATH_VARIABLE: "1", "PYTHONPATH": os.pathsep.join([root, *paths])}
    return {THREADS: str(max(1, cores() // jobs)), **known}


def cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
        total += max(0.0, expected - (0.0 if work.child is None else work.child.seconds))
    return total / min(jobs, len(left))


def slowdown(done: Sequence[ScheduledJob]) -> float:
    """Return how many times longer than expected finished jobs took, 1 where none is known."""
    known = [w for w in done if w.job.expected]
    if not known:
        return 1.0
    return sum(w.seconds for w in known) / sum(w.job.expected or 0.0 for w in known)
