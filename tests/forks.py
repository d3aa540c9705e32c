"""Processes that are forks of one that has done the imports, which take seconds.

``Forks`` starts the one; it is this file, which knows the standard library alone.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any


class Fork:
    """The part of ``subprocess.Popen`` that a process' owner needs; others can kill it, too."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._end = os.pidfd_open(pid)

    def kill(self) -> None:
        """End it, and nothing that it started."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Wait for its end; only its parent gets its exit code."""
        select.select([self._end], [], [])
        os.close(self._end)


class Forks:
    """Starts processes that have a warm-up behind them.

    Args:
        warm_up: code that runs once, before all forks; it may leave no threads.
        environment: of the process that runs it, where it differs from this one's.
        arguments: the warm-up's ``sys.argv[1:]``.
    """

    def __init__(self, warm_up: str, environment: Mapping[str, str], *arguments: str) -> None:
        self._asks, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", **environment}
        with theirs:
            self._server = subprocess.Popen(
                # -P: what lies beside this file is no module
                [sys.executable, "-P", __file__, warm_up, *arguments],
                stdin=theirs,
                stdout=subprocess.PIPE,
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    "PYTHONWARNINGS": "ignore",
                    **environment,
                },
            )
        assert self._server.stdout is not None
        with self._server.stdout as answers:
            self.modules: set[str] = set(json.loads(answers.readline() or "null"))

    def start(
        self,
        code: str,
        *arguments: str,
        files: Sequence[int],
        folder: Path | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> Fork:
        """Run code in a session of its own.

        Args:
            code: what is run, as of ``python -c``.
            arguments: its ``sys.argv[1:]``.
            files: input, output and output of errors.
            folder: current one; None: as here.
            environment: the whole; folders of its PYTHONPATH are looked through first.
        """
        told = {"code": code, "arguments": arguments, "environment": dict(environment)}
        told["folder"] = str(folder or Path.cwd())
        socket.send_fds(self._asks, [json.dumps(told).encode()], files)
        return Fork(int(self._asks.recv(64)))

    def close(self) -> None:
        """End the first process; forks that are at work stay."""
        self._asks.close()
        self._server.wait()


def main() -> None:
    """Warm up; then fork for each that is asked for."""
    asked, warm_up = socket.socket(fileno=os.dup(0)), sys.argv.pop(1)
    exec(warm_up, {"__name__": "warm_up"})
    sys.stdout.write(json.dumps(list(sys.modules)) + "\n")
    sys.stdout.flush()
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, _bury)
    while True:
        message, files, _, _ = socket.recv_fds(asked, 1_000_000, 3)
        if not message:
            return
        process = os.fork()
        if process == 0:
            _become(json.loads(message), files)
        for number in files:
            os.close(number)
        asked.sendall(str(process).encode())


def _bury(*_: object) -> None:
    with suppress(ChildProcessError):  # none is left
        while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG):
            pass


def _become(told: Mapping[str, Any], files: Sequence[int]) -> None:
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        for number, file in enumerate(files):
            os.dup2(file, number)
        os.closerange(3, 256)
        os.chdir(told["folder"])
        os.environ.clear()
        os.environ.update(told["environment"])
        paths = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        sys.path[:0] = [path for path in paths if path not in sys.path]
        sys.argv[1:] = told["arguments"]
        exec(told["code"], {"__name__": "__main__"})
        code = 0
    finally:
        if code:
            traceback.print_exc()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # nobody reads it any more
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
