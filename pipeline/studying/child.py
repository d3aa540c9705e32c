"""One process of a study: started so that it outlives nothing, watched, asked to stop."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from pipeline.studying.lock import Lock

MORTAL = Path(__file__).with_name("mortal.py")
PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)
GRACE = 90.0  # seconds that a process has to save and stop


class Child:
    """A process that keeps a lock, and on Linux is asked to stop when the study dies.

    Args:
        command: program and arguments.
        log: file that its output is added to.
        lock: taken; the process inherits it.
        environment: its variables.
        folder: where it works.
        measured: whether its memory is noted: a launcher's says nothing of what it launches.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        lock: Lock,
        environment: Mapping[str, str],
        folder: Path,
        measured: bool = True,
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._begin = output.tell()
            self._process = subprocess.Popen(
                mortal(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=dict(environment),
                pass_fds=(lock.number,),
                start_new_session=True,  # Ctrl-C is the study's; it asks its processes itself
            )
        lock.leave()
        self.log = log
        self.started = time.monotonic()
        self.memory: int | None = None
        self._measured = measured
        self._asked: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.started

    def ended(self) -> int | None:
        """Return the exit code, None while it runs."""
        code = self._process.poll()
        if code is None:
            if self._measured:
                self._look()
            if self._asked is not None and time.monotonic() - self._asked > GRACE:
                self.kill()
        return code

    def ask(self) -> None:
        """Ask it to save and stop; killed if it doesn't within ``GRACE``."""
        if self._asked is None and self._process.poll() is None:
            self._asked = time.monotonic()
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and its own processes at once."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def output(self) -> str:
        """Return what it printed."""
        with self.log.open("rb") as file:
            file.seek(self._begin)
            return file.read().decode("utf-8", errors="replace")

    def _look(self) -> None:
        """Note how much memory it holds; wait4's figure would include what forked it."""
        held = peak(self._process.pid)
        if held is not None:
            self.memory = max(held, self.memory or 0)


def mortal(command: Sequence[str]) -> list[str]:
    """Return a command that is asked to stop when this process ends, where the system can."""
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-S", "-E", str(MORTAL), str(os.getpid()), *command]


def peak(process: int) -> int | None:
    """Return the most bytes that a process held so far (elsewhere than on Linux: holds)."""
    try:
        if sys.platform == "linux":
            found = PEAK.search(Path(f"/proc/{process}/status").read_text(encoding="utf-8"))
            return int(found[1]) * 1024 if found else None
        return int(psutil.Process(process).memory_info().rss)
    except (OSError, psutil.Error):
        return None
