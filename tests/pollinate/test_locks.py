from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pollinate.errors import PollinateError
from pollinate.locks import FolderLock

ROOT = Path(__file__).parents[2]
HOLD = """
import os, sys, time
from pathlib import Path
from pollinate.locks import FolderLock
FolderLock(Path(sys.argv[1]), ".lock").acquire()
if os.fork() == 0:
    time.sleep(60)  # a worker that outlives its parent
print(os.getpid(), flush=True)
time.sleep(60)
"""
START = """
import os, subprocess, sys, time
os.environ["POLLINATE_FIRST_PROCESS"] = str(os.getpid())
process = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
process.stdout.readline()
print(process.pid, flush=True)
time.sleep(60)
"""
CHILD = """
import time
from pollinate.parents import end_with_parent
end_with_parent()
print(1, flush=True)
time.sleep(60)
"""


def started(code: str, *arguments: object) -> tuple[subprocess.Popen[str], int]:
    """Start a program in a session of its own; return it and the number that it prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_a_lock_is_that_of_the_living_process(tmp_path: Path) -> None:
    process, number = started(HOLD, tmp_path)
    try:
        with pytest.raises(PollinateError, match=rf"{tmp_path} is in use by process {number} on "):
            FolderLock(tmp_path, ".lock").acquire()
        process.kill()
        process.wait()
        lock = FolderLock(tmp_path, ".lock")  # though its worker lives on
        lock.acquire()
        lock.release()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_lock_is_given_once_in_a_process(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path, ".lock"), FolderLock(tmp_path, ".lock")
    first.acquire()
    first.acquire()
    with pytest.raises(PollinateError, match=f"process {os.getpid()} on"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


def test_a_lock_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("dear")
    (tmp_path / ".lock").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="symbolic links"):
        FolderLock(tmp_path, ".lock").acquire()
    assert (tmp_path / "mine").read_text() == "dear"


def test_processes_end_with_the_first_one() -> None:
    first, other = started(START, CHILD)
    first.kill()
    first.communicate()
    until = time.monotonic() + 10
    while psutil.pid_exists(other) and psutil.Process(other).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.05)
