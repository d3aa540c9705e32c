"""Runs commands one after another, each in a fork of one process that imports everything once.

``python -m tests.sessions`` reads a list of sessions from standard input as JSON, and writes their
exit codes. A session can be hit by a fault at an exact place, which no timer could do.
"""

from __future__ import annotations

import json
import os
import signal
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
    torn: str | None = None  # a file that loses its second half before the call
    plots: bool = False  # they take longer than the rest of a small run


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

    import pipeline.session  # noqa: F401  # imported here, once for all forks

    assert lightning.pytorch and torch
    codes = []
    for session in json.load(sys.stdin):
        process = os.fork()
        if process == 0:
            _session(session)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
    sys.stdout.write(json.dumps(codes) + "\n")


def _session(session: dict[str, Any]) -> None:
    os.setpgid(0, 0)  # a fault hits the session's worker processes, too
    log = os.open(session["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    import pipeline.record
    from pipeline.fit import main as fit

    if session["torn"]:
        os.truncate(session["torn"], Path(session["torn"]).stat().st_size // 2)
    if not session["plots"]:
        pipeline.record.draw = lambda *_: []
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
    from lightning_modules.multitask import MultiTaskModule

    return MultiTaskModule


def _callback() -> Any:
    from lightning_modules.callbacks.checkpoint import RunCheckpoint

    return RunCheckpoint


def _checkpoints() -> Any:
    from pipeline import checkpoints

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
