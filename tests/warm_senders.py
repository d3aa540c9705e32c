"""Senders of runs' histories, each a fork of one process that has imported MLflow.

A sender spends three seconds of processor time on imports, and a tenth of one on what it does.
Only the standard library is imported before the server asks for more.
"""

from __future__ import annotations

import gc
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


class WarmSenders:
    """Starts the server, which ends when nobody can ask it any more.

    Args:
        database: an empty one of MLflow's, which is copied.
    """

    PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL

    def __init__(self, database: Path) -> None:
        self._asks, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.warm_senders", str(database)],
                stdin=theirs,
                stdout=subprocess.PIPE,
                env=os.environ | environment | {"MLFLOW_DISABLE_TELEMETRY": "true"},
            )
        assert self._server.stdout is not None
        with self._server.stdout as answers:
            # what a sender has imported when it is at work
            self.modules = set(json.loads(answers.readline()))

    def Popen(  # noqa: N802  # it stands in for subprocess' own, where a run starts its sender
        self, command: Sequence[str], *, env: Mapping[str, str], **_: Any
    ) -> ForkedSender:
        """Fork instead of starting an interpreter."""
        assert list(command[-2:]) == ["-m", "pipeline.tracking.worker"]
        return ForkedSender(self._asks, env)

    def close(self) -> None:
        """End the server; senders that are at work stay."""
        self._asks.close()
        self._server.wait()


class ForkedSender:
    """The part of ``subprocess.Popen`` that a run needs of its sender's process."""

    def __init__(self, server: socket.socket, environment: Mapping[str, str]) -> None:
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        told = json.dumps({"environment": dict(environment), "folder": str(Path.cwd())})
        socket.send_fds(server, [told.encode()], [theirs_in, theirs_out])
        self.pid = int(server.recv(64))
        os.close(theirs_in)
        os.close(theirs_out)
        self._end = os.pidfd_open(self.pid)
        self.stdin = os.fdopen(ours_in, "w")
        self.stdout = os.fdopen(ours_out)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Wait for its end; only its parent, the server, gets its exit code."""
        select.select([self._end], [], [])
        os.close(self._end)


def main() -> None:
    """Import and set up what a sender needs; then fork for each that is asked for."""
    _warm_up(Path(sys.argv[1]))
    asked = socket.socket(fileno=os.dup(0))
    os.write(1, f"{json.dumps(list(sys.modules))}\n".encode())
    signal.signal(signal.SIGCHLD, _bury)
    while True:
        message, files, _, _ = socket.recv_fds(asked, 1_000_000, 2)
        if not message:
            return
        process = os.fork()
        if process == 0:
            _become_sender(json.loads(message), files)
        for number in files:
            os.close(number)
        asked.sendall(str(process).encode())


def _warm_up(database: Path) -> None:
    """Use a database as a sender does, which leaves nothing behind."""
    from pipeline.tracking.mlflow_server import MlflowServer
    from pipeline.tracking.sender import SendCursor, SenderSettings

    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{shutil.copy(database, folder)}"
        settings = SenderSettings(uri, "warm", folder, "warm", "key", "me", 0)
        MlflowServer(settings).open_run(SendCursor(Path(folder, "cursor.json"), uri, "warm"))
    gc.collect()
    gc.freeze()


def _bury(*_: object) -> None:
    with suppress(ChildProcessError):  # none is left
        while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG):
            pass


def _become_sender(told: Mapping[str, Any], files: Sequence[int]) -> None:
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.dup2(files[0], 0)
        os.dup2(files[1], 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.closerange(3, 256)
        os.chdir(told["folder"])
        os.environ.clear()
        os.environ.update(told["environment"])
        sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
        from pipeline.tracking import worker

        worker._events = sys.stdout
        worker.main()
        code = 0
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
