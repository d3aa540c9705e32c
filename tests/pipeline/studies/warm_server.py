"""Runs commands in forks of the process of ``tests.sessions``, for real and fast.

``warm(socket)`` starts it; ``launcher="python .../warm_server.py SOCKET"`` makes a study use it. So
runs any other command: ``python .../warm_server.py SOCKET -m pipeline.fit seed=1``, which ends when
its client does. The client needs the standard library alone.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

LARGEST = 1 << 20  # bytes that a client tells
KILL = {"kill": True}  # what is told to have all commands killed


@contextmanager
def warm(place: Path) -> Iterator[str]:
    """Start the server, give the launcher, end the server."""
    from tests import sessions

    (process,) = sessions.ask({"serve": str(place)})
    try:
        yield f"{sys.executable} -S {__file__} {place}"
    finally:
        sessions.ask({"end": process})


def serve(listener: socket.socket) -> None:
    """Fork for each client."""
    import pipeline.training_run
    from pollinate.parents import end_with_parent

    end_with_parent()
    pipeline.training_run.draw_plots = lambda *_: []  # these three take longer than the rest
    pipeline.training_run.draw_reliability = lambda *_: []
    pipeline.training_run.cost_line = lambda _: "no estimate"
    commands: set[int] = set()

    def reap(*_: object) -> None:
        with suppress(ChildProcessError):
            while ended := os.waitpid(-1, os.WNOHANG)[0]:
                commands.discard(ended)

    signal.signal(signal.SIGCHLD, reap)
    while True:
        client, _ = listener.accept()
        message, files, _, _ = socket.recv_fds(client, LARGEST, 1)
        told = json.loads(message)
        if told == KILL:
            for command in tuple(commands):
                with suppress(ProcessLookupError, ChildProcessError):
                    os.killpg(command, signal.SIGKILL)
                    os.waitpid(command, 0)
        elif (command := os.fork()) == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            _work(told, client, files[0])
        else:
            commands.add(command)
            with suppress(OSError):  # it has done so itself, or ended
                os.setpgid(command, command)
            os.close(files[0])
        client.close()


def _work(told: dict[str, Any], client: socket.socket, output: int) -> None:
    """Run a command in this process, which is its own; don't come back."""
    os.setpgid(0, 0)
    for number in (1, 2):
        os.dup2(output, number)
    os.chdir(told["folder"])
    os.environ.clear()
    os.environ.update(told["environment"])
    sys.argv = told["arguments"]
    client.sendall(f"{os.getpid()} ".encode())
    threading.Thread(target=_end_with, args=(client,), daemon=True).start()
    module, *arguments = told["arguments"]
    try:
        code = import_module(module).main(arguments)
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    client.sendall(f"{code or 0} ".encode())
    os._exit(0)


def _end_with(client: socket.socket) -> None:
    """Kill the command when its client is gone."""
    with suppress(OSError):
        client.recv(1)
    os.killpg(0, signal.SIGKILL)


def ask(place: str, arguments: list[str]) -> int:
    """Have a command run; return its exit code."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(place)
        told = {
            "arguments": arguments,
            "folder": str(Path.cwd()),
            "environment": dict(os.environ),
        }
        socket.send_fds(server, [json.dumps(told).encode()], [1])
        process = int(word(server))

        def pass_on(number: int, frame: FrameType | None) -> None:
            os.kill(process, number)

        signal.signal(signal.SIGTERM, pass_on)
        signal.signal(signal.SIGINT, pass_on)
        return int(word(server) or 1)


def kill_all(place: str) -> None:
    """Kill all commands that run, as a power cut does; they are gone when this returns."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(place)
        server.sendall(json.dumps(KILL).encode())
        assert server.recv(1) == b""


def word(server: socket.socket) -> str:
    """Return what comes before the next space."""
    found = b""
    while (letter := server.recv(1)) not in (b" ", b""):
        found += letter
    return found.decode()


if __name__ == "__main__":
    sys.exit(ask(sys.argv[1], sys.argv[3:]))
