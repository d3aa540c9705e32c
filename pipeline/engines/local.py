"""Processes on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from pipeline.engines.engine import PYTHON, Engine, Handle, Order, Outcome, TakenError
from pipeline.engines.process import ChildProcess, ProcessLock, lock_holder
from pipeline.run_folder import RUN_DIR_VARIABLE
from pollinate.errors import PollinateError

THREADS = "OMP_NUM_THREADS"


class LocalEngine(Engine):
    """Processes on this machine, which end with the one that started them.

    Examples:
        >>> import pollinate as po
        >>> po.engines.LocalEngine().threads(jobs=10_000)  # cores are divided among the processes
        1
    """

    def threads(self, jobs: int) -> int:
        return max(1, cores() // jobs)

    def submit(self, order: Order) -> LocalHandle:
        return LocalHandle(order)


class LocalHandle(Handle):
    """A process of this machine, started here and now.

    Args:
        order: what to run. Its lock is taken first and inherited by the process, so that one that
            outlives this process isn't run twice.
    """

    def __init__(self, order: Order) -> None:
        lock = ProcessLock(order.lock)
        if not lock.acquire():
            holder = lock_holder(order.lock) or "another process"
            raise TakenError(f"{holder} is at work on {order.title}")
        program, *rest = order.words()
        words = [sys.executable if program == PYTHON else program, *rest]
        try:
            self._child = ChildProcess(
                words,
                order.log,
                lock,
                environment(order.variables),
                order.folder,
                measured=words[0] == sys.executable,
                session=order.session,
            )
        except OSError as error:
            # the program's name, or the folder's, whichever isn't there
            what = program if error.filename in (None, *words) else error.filename
            raise PollinateError(f"{what} can't be started: {error.strerror}") from error
        finally:
            lock.release()

    @property
    def seconds(self) -> float:
        return self._child.seconds

    def poll(self) -> Outcome | None:
        code = self._child.ended()
        if code is None:
            return None
        return Outcome(code, self.seconds, self._child.memory, self._child.output())

    def stop(self) -> None:
        self._child.ask()

    def kill(self) -> None:
        self._child.kill()


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's variables with others; the folder of a run is each one's own."""
    known = {key: value for key, value in os.environ.items() if key != RUN_DIR_VARIABLE}
    return {**known, **variables}


def cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
