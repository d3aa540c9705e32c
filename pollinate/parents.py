"""Processes that end with the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

FIRST_PROCESS = "POLLINATE_FIRST_PROCESS"  # number of the process that starts the others of a run
PR_SET_PDEATHSIG = 1
LOOK = 1.0  # seconds between two looks at the parent, where the system has no signal for it


def end_with_parent() -> None:
    """End this process at once when its parent ends: without the first one it would wait for ever.

    Linux sends a signal, which Python can't delay; elsewhere a thread looks at the parent.
    """
    parent = int(os.environ.get(FIRST_PROCESS, os.getppid()))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it ended before it was asked for
        os._exit(128 + signal.SIGTERM)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK)
    os._exit(128 + signal.SIGTERM)
