"""Runs pipeline.fit in forks of one process that has imported everything, for real and fast.

``warm(socket)`` starts it; ``launcher="python .../warm.py SOCKET"`` makes a study use it. Only the
standard library is imported before the server asks for more.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).parents[3]
SERVE = "serve"  # the word by which the server's process, and its forks, are known


@contextmanager
def warm(place: Path) -> Iterator[str]:
    """Start the server, give the launcher, end the server."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, __file__, SERVE, str(place)], env=environment, stdout=subprocess.PIPE
    )
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    try:
        yield f"{sys.executable} -S {__file__} {place}"
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


def serve(place: str) -> None:
    """Fork for each client."""
    import lightning.pytorch  # noqa: F401  # imported here for all
    import matplotlib.pyplot  # noqa: F401

    import pipeline.fit
    import pipeline.training_run

    pipeline.training_run.draw_plots = lambda *_: []  # pictures take longer than the rest
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place)
    listener.listen()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        client, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            message, files, _, _ = socket.recv_fds(client, 65_536, 1)
            told = json.loads(message)
            for number in (1, 2):
                os.dup2(files[0], number)
            os.chdir(told["folder"])
            client.sendall(f"{os.getpid()} ".encode())
            code = pipeline.fit.main(told["arguments"])
            sys.stdout.flush()
            client.sendall(f"{code} ".encode())
            os._exit(0)
        client.close()


def ask(place: str, arguments: list[str]) -> int:
    """Have a command run; return its exit code."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(place)
        told = {"arguments": arguments, "folder": str(Path.cwd())}
        socket.send_fds(server, [json.dumps(told).encode()], [1])
        process = int(word(server))

        def pass_on(number: int, frame: FrameType | None) -> None:
            os.kill(process, number)

        signal.signal(signal.SIGTERM, pass_on)
        return int(word(server) or 1)


def word(server: socket.socket) -> str:
    """Return what comes before the next space."""
    found = b""
    while (letter := server.recv(1)) not in (b" ", b""):
        found += letter
    return found.decode()


if __name__ == "__main__":
    if sys.argv[1] == SERVE:
        serve(sys.argv[2])
    else:
        sys.exit(ask(sys.argv[1], sys.argv[4:]))
