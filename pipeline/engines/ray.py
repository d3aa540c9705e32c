"""Tasks of Ray: on this machine's cores and GPUs, or on those of a cluster."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.engines.engine import Engine, Order, Outcome
from pipeline.engines.remote import RemoteHandle, Supervisor, carried
from pollinate.errors import PollinateError, UsageError

HERE = "local"  # what Ray calls a start on this machine
REACH = 5.0  # seconds that an address has to answer
MEMORY = 80_000_000  # bytes of Ray's store of objects; orders and outcomes are small
LOOK = 30.0  # seconds between two looks at whether any machine has what an order needs
STATISTICS = "RAY_USAGE_STATS_ENABLED"
ENCRYPTED = "RAY_USE_TLS"
# RFC 9113, section 3.4: a client's preface with empty settings; a server's settings follow
SETTINGS, FRAME = 4, 9  # type of a frame, which is its fourth byte, and bytes of a frame's head
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0])


def supervise(order: Order) -> Outcome:
    """Run an order in one of Ray's workers."""
    return Supervisor().run(order)


class RayEngine(Engine):
    """A task of Ray for each process; what a lost worker ran is begun again from its checkpoint.

    Args:
        address: of a cluster, such as ``head:6379`` or ``auto``; None: Ray is started here.
        cpus: processors of a process, > 0; gpus: its GPUs, >= 0, may be a share of one.

    Raises:
        UsageError: a number is out of its range.

    Examples:
        >>> import pollinate as po
        >>> po.engines.RayEngine(cpus=4, gpus=1).threads(jobs=8)
        4
    """

    def __init__(self, address: str | None = None, cpus: float = 1, gpus: float = 0) -> None:
        if not cpus > 0 or not gpus >= 0:
            raise UsageError(
                f"engine.cpus must be > 0 and engine.gpus >= 0, got {cpus:g} and {gpus:g}"
            )
        self.address = address
        self.cpus = cpus
        self.gpus = gpus
        self._ray: Any = None
        self._task: Any = None
        self._owned = False

    def check(self) -> None:
        """Fail soon where nobody listens: Ray itself would try for a minute."""
        if self.address in (None, HERE, "auto"):
            return
        host, colon, port = str(self.address).removeprefix("ray://").rpartition(":")
        if not colon or not port.isdecimal():
            raise UsageError(
                f"engine.address must be HOST:PORT, ray://HOST:PORT or auto, got {self.address}"
            )
        try:
            greet(host.strip("[]"), int(port))
        except OSError as error:
            raise PollinateError(
                f"engine.address={self.address} can't be reached: {error}; start Ray there with "
                "`ray start --head`, or leave the address out to start Ray here"
            ) from error

    def open(self, folder: Path) -> None:
        import ray  # optional, and a second

        self._ray = ray
        if not ray.is_initialized():  # else it is the program's that calls this
            self._connect()
            self._owned = True
        self._task = ray.remote(supervise).options(
            num_cpus=self.cpus, num_gpus=self.gpus, max_retries=0
        )
        try:
            self.require_resources()
        except PollinateError:
            self.close()
            raise

    def _connect(self) -> None:
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        os.environ.setdefault(STATISTICS, "0")  # Ray would tell its makers of each cluster
        try:
            with own_signals():
                if self.address in (None, HERE):
                    own = {"include_dashboard": False, "object_store_memory": MEMORY}
                    self._ray.init(address=HERE, **own, **quiet)
                else:
                    self._ray.init(address=self.address, **quiet)
        except Exception as error:  # Ray has no type for it
            reason = " ".join(str(error).split())
            raise PollinateError(
                f"Ray can't be used at engine.address={self.address or 'null'}: {reason:.300}"
            ) from error

    def require_resources(self) -> None:
        """Check that some machine has what a process asks for: Ray would wait for one for ever.

        Raises:
            PollinateError: none has.
        """
        machines = [one["Resources"] for one in self._ray.nodes() if one["Alive"]]
        have = [(one.get("CPU", 0.0), one.get("GPU", 0.0)) for one in machines]
        if any(cpus >= self.cpus and gpus >= self.gpus for cpus, gpus in have):
            return
        listed = ", ".join(f"{cpus:g} CPUs and {gpus:g} GPUs" for cpus, gpus in sorted(set(have)))
        raise PollinateError(
            f"engine.cpus={self.cpus:g} and engine.gpus={self.gpus:g} are more than any machine "
            f"of Ray has ({listed or 'there is none'}); ask for less, or add a machine"
        )

    def close(self) -> None:
        if self._owned:
            self._owned = False
            self._ray.shutdown()

    def threads(self, jobs: int) -> int:
        return max(1, int(self.cpus))

    def submit(self, order: Order) -> RayHandle:
        return RayHandle(self, self._ray, self._task, carried(order))


class RayHandle(RemoteHandle):
    """A task of Ray."""

    def __init__(self, engine: RayEngine, ray: Any, task: Any, order: Order) -> None:
        super().__init__(order)
        self._engine = engine
        self._ray = ray
        self._reference = task.remote(order)
        self._checked = time.monotonic()

    def outcome(self) -> Outcome | None:
        errors = self._ray.exceptions
        ready, _ = self._ray.wait([self._reference], timeout=0)
        if not ready:
            return self._without_place()
        try:
            outcome: Outcome = self._ray.get(self._reference)
        except errors.TaskCancelledError:
            return Outcome(message="it was withdrawn")
        except errors.RayTaskError as error:
            return Outcome(message=f"Ray can't run it: {last_line(error)}")
        except (errors.TaskUnschedulableError, errors.RuntimeEnvSetupError) as error:
            return Outcome(message=last_line(error))
        except errors.RayError as error:
            seconds = self.seconds or 0.0
            return Outcome(
                None, seconds, message=f"its worker is gone: {first_line(error)}", lost=True
            )
        return outcome

    def _without_place(self) -> Outcome | None:
        """Look now and then whether the last machine that could run it is gone."""
        if self.seconds is not None or time.monotonic() - self._checked < LOOK:
            return None
        self._checked = time.monotonic()
        try:
            self._engine.require_resources()
        except PollinateError as error:
            self.kill()
            return Outcome(message=str(error))
        return None

    def ask(self) -> None:
        # a task that waits is withdrawn; one that runs gets a KeyboardInterrupt
        with suppress(self._ray.exceptions.RayError):
            self._ray.cancel(self._reference, force=False)

    def kill(self) -> None:
        with suppress(self._ray.exceptions.RayError):
            self._ray.cancel(self._reference, force=True)


def greet(host: str, port: int) -> None:
    """Connect, and wait for the greeting of HTTP/2, which all servers of Ray speak.

    Raises:
        OSError: nobody listens, or nobody answers so in time.
    """
    with socket.create_connection((host, port), REACH) as server:
        if os.environ.get(ENCRYPTED, "0") not in ("0", ""):
            return
        server.settimeout(REACH)
        server.sendall(GREETING)
        answer = server.recv(FRAME, socket.MSG_WAITALL)
    if len(answer) < FRAME or answer[3] != SETTINGS:
        raise OSError("what listens there isn't Ray")


@contextmanager
def own_signals() -> Iterator[None]:
    """Keep this program's answer to SIGTERM, which Ray replaces by its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason")


def last_line(error: BaseException) -> str:
    return next(
        (line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "no reason"
    )
