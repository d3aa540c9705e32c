"""Processor and memory use, sampled beside the training."""

from __future__ import annotations

import sys
import threading
import time
from importlib.util import find_spec
from typing import Any

import psutil

from pipeline.tracking.points import PointJournal

_MEGABYTE = 1e6


class SystemSampler:
    """Writes a sample into a journal every few seconds, from a thread of its own.

    The step is the number of seconds since the start; a resume goes on behind the last one.

    Args:
        journal: where samples go; MLflow shows keys that begin with ``system/`` on a page.
        seconds: between two samples, > 0.
    """

    def __init__(self, journal: PointJournal, seconds: float) -> None:
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
            self._journal.log(sample(), step)

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()


def sample() -> dict[str, float]:
    """Measure the machine and this process with its children."""
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
