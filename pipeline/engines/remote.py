"""What engines of several machines have in common: a process that looks after another one.

The machines share the folder with the orders' files, so that logs, locks and runs are where they
always are. The lock's file tells the one who waits that a session has begun.
"""

from __future__ import annotations

import os
import socket
import time
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pipeline
from pipeline.engines.engine import Handle, Order, Outcome, TakenError
from pipeline.engines.local import LocalHandle
from pipeline.engines.process import lock_holder
from pollinate.errors import PollinateError
from pollinate.foreign import read_json
from pollinate.parents import FIRST_PROCESS

PAUSE = 0.1  # seconds between two looks at the process
LOOK = 1.0  # seconds between two looks at a file that another machine writes
OUTPUT = 20_000  # characters of its output that are sent
# variables that a process has wherever it runs; all others are of its machine
CARRIED = ("MLFLOW_", "HF_", "POLLINATE_", "OMP_", "MKL_")
MODULES = "PYTHONPATH"


class Supervisor:
    """Runs an order on the machine where it is.

    Args:
        before: how earlier sessions of the same order ended, which this one goes on with.
    """

    def __init__(self, before: Outcome | None = None) -> None:
        self.before = Outcome() if before is None else before
        self._handle: LocalHandle | None = None

    def run(self, order: Order, asked: Callable[[], bool] = lambda: False) -> Outcome:
        """Run to the end.

        Args:
            order: what to run.
            asked: says whether it should save and stop; KeyboardInterrupt says the same.
        """
        try:
            require_current(order)
            if is_finished(order):
                return Outcome(code=0)
            self._handle = LocalHandle(order)
        except TakenError as error:
            return Outcome(message=str(error), taken=True)
        except PollinateError as error:
            return Outcome(message=str(error))
        while True:
            with suppress(KeyboardInterrupt):
                return self._wait(asked)
            self._handle.stop()

    def _wait(self, asked: Callable[[], bool]) -> Outcome:
        assert self._handle is not None, "it was begun"
        looked = 0.0
        while (outcome := self._handle.poll()) is None:
            if time.monotonic() - looked >= LOOK:
                looked = time.monotonic()
                if asked():
                    self._handle.stop()
            time.sleep(PAUSE)
        known = [value for value in (self.before.memory, outcome.memory) if value is not None]
        return replace(
            outcome,
            seconds=self.before.seconds + outcome.seconds,
            memory=max(known, default=None),
            output=outcome.output[-OUTPUT:],
        )

    def save(self) -> Outcome:
        """Have the process save and stop; return how the sessions so far have ended."""
        if self._handle is None:
            return self.before
        self._handle.stop()
        return self._wait(lambda: False)


def is_finished(order: Order) -> bool:
    """Say whether nothing is left to do: a process that outlived its study did it meanwhile."""
    try:
        return bool(read_json(order.summary).get("status") == "finished")
    except (OSError, ValueError, AttributeError):
        return False


def require_current(order: Order) -> None:
    """Check that the order's files are seen here, and that no later order replaced it.

    One that waited for a place may have been forgotten by a study that was killed, and begun anew.

    Raises:
        PollinateError: they aren't; TakenError: one has.
    """
    try:
        session = read_json(order.ledger).get("session")
    except (OSError, ValueError, AttributeError) as error:
        raise PollinateError(
            f"{socket.gethostname()} doesn't see {order.ledger}; choose a run_dir in a folder that "
            "all machines share"
        ) from error
    if session != order.session:
        raise TakenError(f"{order.title} was begun again meanwhile")
    if not order.folder.is_dir():
        raise PollinateError(
            f"{socket.gethostname()} has no folder {order.folder}, where the study was started; "
            "start it in a folder that all machines share"
        )


def carried(order: Order) -> Order:
    """Return an order that takes along what of this process's environment it needs elsewhere."""
    own = {
        key: value
        for key, value in os.environ.items()
        if key.startswith(CARRIED) and key not in (FIRST_PROCESS, "POLLINATE_RUN_DIR")
    }
    root = str(Path(pipeline.__file__).parents[1])
    paths = [
        str(Path(one).absolute()) for one in os.environ.get(MODULES, "").split(os.pathsep) if one
    ]
    own[MODULES] = os.pathsep.join(dict.fromkeys([root, *paths]))
    return replace(order, variables={**own, **order.variables})


class RemoteHandle(Handle):
    """An order that another process looks after, maybe after it has waited for a place."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self._begun: float | None = None
        self._looked = 0.0
        self._asked = False

    @property
    def seconds(self) -> float | None:
        if time.monotonic() - self._looked >= LOOK:
            self._look()
        return None if self._begun is None else max(0.0, time.time() - self._begun)

    def _look(self) -> None:
        """Look whether it has begun: its process then has signed the lock."""
        self._looked = time.monotonic()
        holder = lock_holder(self.order.lock) if self._begun is None else None
        if holder is not None and holder.session == self.order.session:
            self._begun = holder.since

    def poll(self) -> Outcome | None:
        outcome = self.outcome()
        if outcome is not None:
            with suppress(OSError):  # a look at the folder: NFS then shows what is new in it
                list(self.order.begun.parent.iterdir())
        return outcome

    def stop(self) -> None:
        if not self._asked:
            self._asked = True
            self._look()
            self.ask()

    @abstractmethod
    def outcome(self) -> Outcome | None:
        """Return how it ended, None before."""

    @abstractmethod
    def ask(self) -> None:
        """Ask it to save and stop, or withdraw it; said once."""
