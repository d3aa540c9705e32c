"""Runs commands one after another, each in a fork of one process that imports everything once.

``python -m tests.sessions`` reads a list of sessions from standard input as JSON, and writes their
exit codes. A session can be hit by a fault at an exact place, which no timer could do.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent

# a run of two seconds on real data; dropout and augmentation are on
SMOKE = (
    "experiment=smoke",
    "tracking=none",
    "encoder.text.pairs=128",
    "encoder.text.width=16",
    "encoder.image.width=8",
)

ADAPTED = (
    "experiment=smoke",
    "tracking=none",
    "encoder/text=transformer",
    "encoder.text.tune=task_lora",
    "encoder.image.width=8",
)

# the same of every type of task on a table of texts and pictures
TASKS = (
    f"data={ROOT / 'tests' / 'data' / 'tasks.yaml'}",
    "data.image.augment=flip",
    "dim=16",
    "tracking=none",
    "encoder.text.pairs=128",
    "encoder.text.width=16",
    "encoder.image.width=8",
    "sampler.batch_size=8",
    "sampler.steps_per_epoch=12",
    "checkpoint.every_n_steps=4",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=5",
)
# encoders whose features are kept, with those of tokens, which tagging reads
FROZEN = (
    *TASKS,
    "encoder.text.tune=frozen",
    "encoder.image.tune=frozen",
    "data.image.augment=null",
    *(f"data.image.{name}=0" for name in ("shift", "rotate", "scale")),
)
STREAMED = (*TASKS, "data.datasets.shop.streaming=true")


@dataclass(frozen=True)
class Fault:
    """At the ``count``-th time (from 1) that ``place`` is reached, the process gets ``signal``."""

    place: str  # a key of PLACES
    count: int
    signal: str = "SIGKILL"


@dataclass(frozen=True)
class Session:
    """One call of ``pipeline.fit``; its output goes to ``log``."""

    arguments: Sequence[str]
    log: str
    fault: Fault | None = None
    # a file, or the newest one of a folder, that loses its second half before the call
    torn: str | None = None
    # these two take longer than the rest of a small run
    plots: bool = False
    estimate: bool = False  # what a step will cost, printed before the first
    processes: int = 1  # of the run; a fault hits the first, and its end ends the others


def run_sessions(sessions: Sequence[Session], cwd: Path) -> list[int]:
    """Run the sessions in order; return their exit codes, minus the signal where one killed it."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "TORCH_CPP_LOG_LEVEL": "ERROR",  # as pipeline.fit sets it before it imports torch
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.sessions"],
        input=json.dumps([asdict(session) for session in sessions]),
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    codes: list[int] = json.loads(done.stdout.splitlines()[-1])
    return codes


def main() -> None:
    """Read sessions, fork for each, write exit codes."""
    import lightning.pytorch
    import torch

    # imported here, once for all forks
    import datamodules.sources.quickstart
    import lightning_modules.encoders.bag
    import lightning_modules.encoders.cnn
    import pipeline.training_run

    assert lightning.pytorch and torch and pipeline.training_run
    assert datamodules.sources.quickstart and lightning_modules.encoders
    codes = []
    for session in json.load(sys.stdin):
        if session["torn"]:
            tear(Path(session["torn"]))
        codes.append(_all_processes(session))
    sys.stdout.write(json.dumps(codes) + "\n")


def tear(path: Path) -> None:
    """Cut a file, or the newest one of a folder, in half."""
    if path.is_dir():
        path = max(path.iterdir(), key=lambda file: file.stat().st_mtime_ns)
    os.truncate(path, path.stat().st_size // 2)


def _all_processes(session: dict[str, Any]) -> int:
    """Run a session's processes as torchrun would; return the first one's exit code."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    count = session["processes"]
    processes = []
    for rank in range(count):
        process = os.fork()
        if process == 0:
            if count > 1:
                os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "RANK": str(rank)}
                os.environ |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
                os.environ |= {"LOCAL_RANK": str(rank), "GROUP_RANK": "0"}
                os.environ |= {"TORCHELASTIC_RUN_ID": "test"}
            _session(session | ({"fault": None} if rank else {}))
        processes.append(process)
    code = os.waitstatus_to_exitcode(os.waitpid(processes[0], 0)[1])
    for process in processes[1:]:
        if code < 0:
            os.kill(process, signal.SIGKILL)
        other = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        code = code or other
    return code


def _session(session: dict[str, Any]) -> None:
    os.setpgid(0, 0)  # a fault hits the session's worker processes, too
    log = os.open(session["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    import pipeline.training_run
    from pipeline.fit import main as fit

    if not session["plots"]:
        pipeline.training_run.draw_plots = lambda *_: []
    if not session["estimate"]:
        pipeline.training_run.TrainingRun._cost_line = lambda _: "no estimate"
    if session["fault"]:
        inject(Fault(**session["fault"]))
    code = fit(session["arguments"])
    sys.stdout.flush()
    os._exit(code)


def inject(fault: Fault) -> None:
    """Make the fault happen in this process."""
    owner, name = PLACES[fault.place]()
    original = getattr(owner, name)
    calls = 0

    def faulty(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == fault.count:
            number = signal.Signals[fault.signal]
            kill = os.killpg if number == signal.SIGKILL else os.kill
            kill(os.getpid(), number)
        return original(*args, **kwargs)

    setattr(owner, name, faulty)


def _module() -> Any:
    from lightning_modules.module import MultiTaskModule

    return MultiTaskModule


def _callback() -> Any:
    from lightning_modules.callbacks.checkpoint import RunCheckpoint

    return RunCheckpoint


def _checkpoints() -> Any:
    from lightning_modules import checkpoints

    return checkpoints


PLACES: dict[str, Callable[[], tuple[Any, str]]] = {
    "training step": lambda: (_module(), "training_step"),
    "backward": lambda: (_module(), "backward"),
    "validation step": lambda: (_module(), "validation_step"),
    "end of validation": lambda: (_callback(), "on_validation_end"),
    "checkpoint written, not renamed": lambda: (_checkpoints(), "_sync_file"),
    "checkpoint about to be written": lambda: (_checkpoints(), "write_checkpoint"),
    "best scored": lambda: (_module(), "test_step"),
}


if __name__ == "__main__":
    main()
