"""One process: its lock, its start and end, and why it failed.

The lock is inherited by the process and outlives the one that started it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from pollinate.files import NO_LINKS
from pollinate.foreign import read_json
from pollinate.program import shell_command


@dataclass(frozen=True)
class LockHolder:
    """Who has a lock, or had it last.

    process: its number; host: name of its machine; since: seconds since 1970.
    session: of a trial that it runs.
    """

    process: int
    host: str
    since: float
    session: str = ""

    def __str__(self) -> str:
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.since))
        return f"process {self.process} on {self.host}, since {began}"


def lock_holder(path: Path) -> LockHolder | None:
    """Return what a lock's file says, None for nothing that can be read."""
    try:
        found = LockHolder(**read_json(path))
        return found if isinstance(found.since, float | int) else None
    except (OSError, ValueError, TypeError):
        return None


class ProcessLock:
    """Held as long as any process has the open file: this one, or one that inherited it.

    It is flock's, so nothing is left behind by a process that is killed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def acquire(self) -> bool:
        """Take the lock; False if another process has it."""
        if self._file is not None:
            return True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | NO_LINKS, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                os.close(file)
                return False
            # a file system without locks: nothing can be told apart there
        self._file = file
        return True

    def sign(self, process: int | None = None, session: str = "") -> None:
        """Write into the file who holds it, for people and for the one that waits for a session.

        Args:
            process: this one by default.
            session: of a trial.
        """
        holder = LockHolder(process or os.getpid(), socket.gethostname(), time.time(), session)
        os.ftruncate(self.number, 0)
        os.pwrite(self.number, json.dumps(asdict(holder)).encode(), 0)

    @property
    def is_held(self) -> bool:
        """Whether it was taken here, and not released."""
        return self._file is not None

    @property
    def number(self) -> int:
        """The file's number, for a process that is to inherit it."""
        assert self._file is not None, "taken before"
        return self._file

    def release(self) -> None:
        """Close the file here; a process that inherited it keeps the lock."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def is_taken(path: Path) -> bool:
    if not path.exists():
        return False
    lock = ProcessLock(path)
    free = lock.acquire()
    lock.release()
    return not free


DIE_WITH_PARENT = Path(__file__).with_name("die_with_parent.py")
PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)
GRACE = 90.0  # seconds that a process has to save and stop


class ChildProcess:
    """A process that keeps a lock, and on Linux is asked to stop when its parent dies.

    Args:
        command: program and arguments.
        log: file that its output is added to.
        lock: taken; the process inherits it.
        environment: its variables.
        folder: where it works.
        measured: whether its memory is noted: a launcher's says nothing of what it launches.
        session: what the lock's file says of it.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        lock: ProcessLock,
        environment: Mapping[str, str],
        folder: Path,
        measured: bool = True,
        session: str = "",
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._begin = output.tell()
            self._process = subprocess.Popen(
                dying_with_parent(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=dict(environment),
                pass_fds=(lock.number,),
                start_new_session=True,  # Ctrl-C is the parent's; it asks its processes itself
            )
        lock.sign(self._process.pid, session)
        lock.release()
        self.log = log
        self.started = time.monotonic()
        self.memory: int | None = None
        self._measured = measured
        self._asked: float | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def ended(self) -> int | None:
        """Return the exit code, None while it runs."""
        code = self._process.poll()
        if code is None:
            if self._measured:
                self._update_memory()
            if self._asked is not None and time.monotonic() - self._asked > GRACE:
                self.kill()
        return code

    def ask(self) -> None:
        """Ask it to save and stop; killed if it doesn't within ``GRACE``."""
        if self._asked is None and self._process.poll() is None:
            self._asked = time.monotonic()
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def output(self) -> str:
        with self.log.open("rb") as file:
            file.seek(self._begin)
            return file.read().decode("utf-8", errors="replace")

    def _update_memory(self) -> None:
        """Note how much memory it holds; wait4's figure would include what forked it."""
        held = peak_memory(self._process.pid)
        if held is not None:
            self.memory = max(held, self.memory or 0)


def dying_with_parent(command: Sequence[str]) -> list[str]:
    """Return a command that is asked to stop when this process ends, where the system can."""
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-S", "-E", str(DIE_WITH_PARENT), str(os.getpid()), *command]


def peak_memory(process: int) -> int | None:
    """Return the most bytes that a process held so far (elsewhere than on Linux: holds)."""
    try:
        if sys.platform == "linux":
            found = PEAK.search(Path(f"/proc/{process}/status").read_text(encoding="utf-8"))
            return int(found[1]) * 1024 if found else None
        return int(psutil.Process(process).memory_info().rss)
    except (OSError, psutil.Error):
        return None


MEMORY = re.compile(
    r"out of memory|memory ran out|can't allocate memory|cannot allocate memory|unable to allocate"
    r"|not enough memory|MemoryError|bad_alloc|failed to map segment",
    re.IGNORECASE,
)
ERROR = "error: "


def failure_reason(code: int | None, output: str, timeout: float | None = None) -> str:
    """Return why a process failed.

    Args:
        code: its exit code, minus the number of a signal that ended it; None: it wasn't started.
        output: what it printed.
        timeout: seconds that it was given, if it took longer.
    """
    if timeout is not None:
        return (
            f"it took more than timeout={timeout / 60:g} minutes and was stopped; its checkpoint "
            "stays: the same command with a larger timeout resumes it"
        )
    line, is_error = last_words(output)
    advice = memory_advice()
    if code == -signal.SIGKILL:
        return f"it was killed, probably for lack of memory; {advice}"
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"it was ended by {name}" + (f": {line}" if line else "")
    if MEMORY.search(line):
        return f"{line.rstrip('.;: ')}; {advice}" if advice not in line else line
    if is_error:
        return line
    said = f"; it said last: {line}" if line else " and said nothing"
    return f"it ended with exit code {code}{said}"


def memory_advice() -> str:
    return (
        "run fewer at a time (jobs=1), or take a smaller sampler.batch_size: "
        f"{shell_command('plan')} tells what fits"
    )


def last_words(output: str) -> tuple[str, bool]:
    """Return the last line that tells of an error, or the last one at all, and which it is."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(ERROR.strip())]
    if not errors:
        return (lines[-1] if lines else ""), False
    after = lines[lines.index(errors[-1]) + 1 :]
    problems = [line for line in after if line.startswith("- ")]
    return " ".join([errors[-1].removeprefix(ERROR), *problems]), True
