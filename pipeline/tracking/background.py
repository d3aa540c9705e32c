"""What runs beside the training: the sender's process, and the sampling of processor and memory."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

import pipeline
from pipeline.tracking.addresses import sync_command
from pipeline.tracking.journals import MetricJournal
from pipeline.tracking.sender import SenderSettings, stored_run_id
from pollinate.overrides import override
from pollinate.printable import printable

logger = logging.getLogger(__name__)

_PATIENCE = 60.0  # seconds without news from a server that answers
_PATIENCE_DOWN = 3.0  # seconds for a server that does not
# each thread of theirs would count against the process' memory
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_RESTARTS = 3  # of a process that was killed
_UPLOAD = 2e6  # bytes a second, the slowest upload that is waited for


class SenderProcess:
    """Runs ``pipeline.tracking.worker`` for one run and turns its events into few messages.

    Nothing here waits for the server except ``close``, which is bounded.
    """

    def __init__(self, settings: SenderSettings) -> None:
        self._run_dir = Path(settings.run_dir)
        self._uri = settings.uri
        self.run_id: str | None = stored_run_id(self._run_dir)
        self._is_down = False
        self._has_closed = False
        self._is_closing = False
        self._alive_until = time.monotonic() + _PATIENCE
        self._settings = settings.to_json()
        self._process = _start()
        self._say(self._settings)
        self._listener = threading.Thread(target=self._listen, name="tracking", daemon=True)
        self._listener.start()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended, which the listener sees
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _listen(self) -> None:
        self._follow()
        for _ in range(_RESTARTS):
            if self._has_closed:
                return
            # it was killed; the journals are whole, and a server has what it has
            self._process.wait()
            _close(self._process)
            self._process = _start()
            if self._has_closed:  # meanwhile
                self._process.kill()
            self._say(self._settings)
            if self._is_closing:
                self._say("close")
            self._follow()
        if not self._has_closed:
            self._has_closed = True
            logger.warning("tracking has stopped; %s", self._advice())

    def _follow(self) -> None:
        """Handle what the process reports until it ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                event = json.loads(line)
            except ValueError:  # it was killed while it wrote
                continue
            self._handle({key: _shown(value) for key, value in event.items()})

    def _handle(self, event: dict[str, Any]) -> None:
        self._alive_until = time.monotonic() + _PATIENCE + event.get("bytes", 0) / _UPLOAD
        match event["event"]:
            case "run":
                self.run_id = event["run_id"]
            case "down":
                self._note_down(event["error"], event.get("reached", False))
            case "up":
                self._note_up()
            case "refused":
                logger.warning("MLflow does not take %s: %s", event["what"], event["error"])
            case "deleted":
                self._has_closed = True
                logger.warning(
                    "MLflow run %s was deleted; nothing more is sent, the history stays in %s",
                    event["run_id"],
                    self._run_dir,
                )
            case "closed":
                self._has_closed = True

    def _note_down(self, error: str, reached: bool) -> None:
        what = "tracking server not reachable; points are kept in %s and sent when it is back (%s)"
        if reached:
            what = "MLflow doesn't take what it is sent; it is kept in %s and tried again (%s)"
        if not self._is_down:
            logger.warning(what, self._run_dir, error)
        self._is_down = True

    def _note_up(self) -> None:
        if self._is_down:
            logger.info("tracking server is back; everything is sent")
        self._is_down = False

    def _advice(self) -> str:
        return f"send the rest with: {sync_command(self._uri, override('run_dir', self._run_dir))}"

    def close(self) -> None:
        """Let it send the rest: as long as it gets on, about 3 s if the server is down."""
        started = time.monotonic()
        self._alive_until = started + _PATIENCE
        self._is_closing = True
        self._say("close")
        while self._listener.is_alive() and time.monotonic() < self._deadline(started):
            time.sleep(0.02)
        if self._listener.is_alive():
            self._has_closed = True  # said here, so not by the listener
            self._process.kill()
            logger.warning("the tracking server lacks a part of this run; %s", self._advice())
        self._listener.join()
        self._process.wait()
        _close(self._process)

    def _deadline(self, started: float) -> float:
        return started + _PATIENCE_DOWN if self._is_down else self._alive_until


def _close(process: subprocess.Popen[str]) -> None:
    """Close the pipes to a process that has ended, with what it didn't read."""
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        with suppress(OSError):
            stream.close()


def _shown(value: Any) -> Any:
    """Return an event's detail; a server's words go to the terminal."""
    return printable(value) if isinstance(value, str) else value


def _start() -> subprocess.Popen[str]:
    """Start the worker in a session of its own: Ctrl-C must not reach it."""
    root = str(Path(pipeline.__file__).parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        # -P: files of the current folder must not stand in for modules
        [sys.executable, "-P", "-m", "pipeline.tracking.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONWARNINGS": "ignore",
            **_ONE_THREAD,
        },
        text=True,
        start_new_session=True,
    )


_MEGABYTE = 1e6


class SystemSampler:
    """Writes a sample into a journal every few seconds, from a thread of its own.

    The step is the number of seconds since the start; a resume goes on behind the last one.

    Args:
        journal: where samples go; MLflow shows keys that begin with ``system/`` on a page.
        seconds: between two samples, > 0.
    """

    def __init__(self, journal: MetricJournal, seconds: float) -> None:
        self._journal = journal
        self._seconds = seconds
        self._first = journal.last_step + 1
        self._started = time.monotonic()
        self._stop = threading.Event()
        psutil.cpu_percent()  # the first call only starts the measurement
        self._thread = threading.Thread(target=self._run, name="system", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            step = self._first + int(time.monotonic() - self._started)
            self._journal.log(system_sample(), step)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


def system_sample() -> dict[str, float]:
    memory = psutil.virtual_memory()
    return {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_megabytes": memory.used / _MEGABYTE,
        "system/system_memory_usage_percentage": memory.percent,
        "system/process_memory_usage_megabytes": _process_memory() / _MEGABYTE,
        **_gpus(),
    }


def _process_memory() -> int:
    """Resident bytes of this process and its children (loader workers and the sender)."""
    me = psutil.Process()
    return sum(map(_resident, [me, *me.children(recursive=True)]))


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it ended meanwhile
        return 0


def _gpus() -> dict[str, float]:
    # the module is looked up, not imported: measuring must not start CUDA on an unused device
    cuda: Any = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return {}
    found: dict[str, float] = {}
    for device in range(cuda.device_count()):
        used = cuda.memory_reserved(device)
        if used:
            found[f"system/gpu_{device}_memory_usage_megabytes"] = used / _MEGABYTE
            if find_spec("pynvml"):
                found[f"system/gpu_{device}_utilization_percentage"] = cuda.utilization(device)
    return found
