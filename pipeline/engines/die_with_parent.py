"""Run a command that is sent SIGTERM when its parent ends: ``die_with_parent.py PARENT ...``.

A program of its own, since no Python code may run between fork and exec of a process with threads.
Linux only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel for the signal, then run the command in this process."""
    parent, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it ended before it was asked for
        sys.exit(128 + signal.SIGTERM)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"error: {command[0]} can't be started: {error.strerror}")


if __name__ == "__main__":
    main()
