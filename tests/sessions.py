"""Runs commands one after another, each in a fork of one process that has done it all before.

``python -m tests.sessions`` trains once, for all that is imported and set up on the way: what comes
after takes a quarter of the time. Then it reads lists of sessions from standard input, each a line
of JSON, and answers with a line of exit codes. A session can be hit by a fault at an exact place,
which no timer could do.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cache, partial, partialmethod
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

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
    "preset=none",
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
    # these five take longer than the rest of a small run
    plots: bool = False
    preset: bool = False  # that chooses what is left open
    linear: bool = False  # models to compare with
    model: bool = False  # exported at the end
    estimate: bool = False  # what a step will cost, printed before the first
    compiler: str = "inductor"  # or one that writes no C++, which takes a minute
    processes: int = 1  # of the run; a fault hits the first, and its end ends the others
    command: bool = False  # it can start its other processes itself, as `python -m` does


def run_sessions(sessions: Sequence[Session], cwd: Path) -> list[int]:
    """Run the sessions in order; return their exit codes, minus the signal where one killed it."""
    return ask({"cwd": str(cwd), "sessions": [asdict(session) for session in sessions]})


def call(function: Callable[..., None], *arguments: str, cwd: Path) -> int:
    """Have a function called, with output to the file ``log``; return the exit code as above."""
    name = [function.__module__, function.__qualname__]
    return ask({"cwd": str(cwd), "function": name, "arguments": arguments})[0]


def ask(request: Mapping[str, Any]) -> list[int]:
    """Have the server do what is asked; return exit codes."""
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    answer = server.stdout.readline()
    assert answer, f"the server of sessions ended with {server.wait()}; see its output"
    codes: list[int] = json.loads(answer)
    return codes


@cache
def _server() -> subprocess.Popen[str]:
    """Start the process that forks; it ends when nobody can ask it any more."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",  # a process that has used an accelerator can't be forked
        "TORCH_CPP_LOG_LEVEL": "ERROR",  # as pipeline.fit sets it before it imports torch
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.sessions"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    atexit.register(_end, server)
    return server


def _end(server: subprocess.Popen[str]) -> None:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.close()
    server.wait()
    server.stdout.close()


def main() -> None:
    """Train once; then fork for each session, and write exit codes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing else may come between the answers
    warm_up()
    for line in sys.stdin:
        request = json.loads(line)
        os.chdir(request.get("cwd", ROOT))
        if "cases" in request:
            codes = _alone_and_both(**request)
        elif "serve" in request:
            codes = [_serve(request["serve"])]
        elif "end" in request:
            os.kill(request["end"], signal.SIGTERM)
            codes = [_end_of([request["end"]])]
        elif "function" in request:
            codes = [_end_of(_fork(1, partial(_call, *request["function"], request["arguments"])))]
        else:
            codes = [_torn_or_not(session) for session in request["sessions"]]
        answers.write(json.dumps(codes) + "\n")
        answers.flush()


def warm_up() -> None:
    """Train for a step on each kind of data, and leave no trace but what is in memory.

    Nothing goes backward but one number, and the rehearsal of a step: what a step costs is
    estimated in a sixth of the time after that.
    """
    import torch

    import pipeline.training_run
    from datamodules.sources import quickstart
    from lightning_modules.module import MultiTaskModule
    from pipeline.fit import main as fit

    # At its first backward autograd starts a thread for each device that it sees, and no thread
    # survives a fork: were its tensors the rehearsal's, without numbers, it would see devices.
    torch.ones(1, requires_grad=True).sum().backward()  # type: ignore[no-untyped-call]  # torch's is not annotated
    environment = dict(os.environ)
    os.fsync = lambda _: None  # no session outlives a power cut
    quickstart.read_numbers = cache(quickstart.read_numbers)
    quickstart.read_frame = cache(quickstart.read_frame)
    still = [
        patch.object(MultiTaskModule, "backward", lambda *_, **__: None),
        patch.object(pipeline.training_run, "draw_plots", lambda *_: []),
        patch.object(pipeline.training_run, "draw_reliability", lambda *_: []),
        warnings.catch_warnings(),
    ]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for one in still:
            stack.enter_context(one)
        for name, base in (("smoke", SMOKE), ("tasks", TASKS)):
            code = fit([*base, "trainer.max_steps=1", f"run_dir={folder}/{name}"])
            assert code == 0
            os.environ.clear()  # which has the run's folder now
            os.environ.update(environment)
    gc.collect()
    gc.freeze()


def _call(module: str, name: str, arguments: Sequence[str]) -> int:
    _write_to("log")
    getattr(import_module(module), name)(*arguments)
    return 0


def _torn_or_not(session: dict[str, Any]) -> int:
    if session["torn"]:
        tear(Path(session["torn"]))
    return _all_processes(session)


def _alone_and_both(cases: str, cwd: str, names: Sequence[str]) -> list[int]:
    """Run a module's cases alone in the folder ``one``, and as two processes in ``two``."""

    def work(folder: str, log: str) -> int:
        from tests.processes import run_cases

        _write_to(log)
        run_cases(import_module(cases).train, Path(cwd) / folder, names)
        return 0

    both = _fork(2, lambda: work("two", f"two-{os.environ['RANK']}.log"))
    alone = _fork(1, lambda: work("one", "one.log"))
    return [_end_of(both), _end_of(alone)]


def _serve(place: str) -> int:
    """Fork a process that runs the commands it is asked for; return its number."""
    from tests.pipeline.studies.warm_server import serve

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place)
    listener.listen()
    process = os.fork()
    if process == 0:
        serve(listener)
    listener.close()
    return process


def tear(path: Path) -> None:
    """Cut a file, or the newest one of a folder, in half."""
    if path.is_dir():
        path = max(path.iterdir(), key=lambda file: file.stat().st_mtime_ns)
    os.truncate(path, path.stat().st_size // 2)


def _all_processes(session: dict[str, Any]) -> int:
    """Run a session's processes as torchrun would; return the first one's exit code."""

    def work() -> int:
        return _session(session | ({"fault": None} if os.environ.get("RANK", "0") != "0" else {}))

    return _end_of(_fork(session["processes"], work))


def _fork(count: int, work: Callable[[], int]) -> list[int]:
    """Do the same in several processes that know of each other; return their ids."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    processes = []
    for rank in range(count):
        process = os.fork()
        if process == 0:
            if count > 1:
                os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "RANK": str(rank)}
                os.environ |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
                os.environ |= {"LOCAL_RANK": str(rank), "GROUP_RANK": "0"}
                os.environ |= {"TORCHELASTIC_RUN_ID": "test"}
            code = 1
            try:
                code = work()
            finally:
                if sys.exc_info()[0]:
                    traceback.print_exc()
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        processes.append(process)
    return processes


def _end_of(processes: Sequence[int]) -> int:
    """Wait for all; return the first one's exit code, or another one's that isn't 0."""
    code = os.waitstatus_to_exitcode(os.waitpid(processes[0], 0)[1])
    for process in processes[1:]:
        if code < 0:
            os.kill(process, signal.SIGKILL)
        other = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        code = code or other
    return code


def _write_to(log: str) -> None:
    number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(number, 1)
    os.dup2(number, 2)


def _session(session: dict[str, Any]) -> int:
    os.setpgid(0, 0)  # a fault hits the session's worker processes, too
    _write_to(session["log"])
    import torch

    import pipeline.presets.apply
    import pipeline.serving.model_folder
    import pipeline.training_run
    from pipeline.fit import main as fit
    from pipeline.linear.scores import LinearScores
    from pipeline.presets.apply import ChosenConfig

    pipeline.serving.model_folder.OWN_PACKAGES = ()  # to copy their files takes a while
    if session["command"]:
        sys.argv = ["pipeline.fit", *session["arguments"]]
        sys.modules["__main__"].__spec__ = find_spec("pipeline.fit")
        sys.path.insert(0, str(Path.cwd()))
    if not session["plots"]:
        pipeline.training_run.draw_plots = lambda *_: []
        pipeline.training_run.draw_reliability = lambda *_: []
    if not session["preset"]:
        pipeline.presets.apply.apply_preset = lambda _, config, *__: ChosenConfig(config)
    if not session["linear"]:
        pipeline.training_run.linear_scores = lambda *_: LinearScores()
    if not session["model"]:
        pipeline.training_run.export_model = lambda *_: None
    if not session["estimate"]:
        pipeline.training_run.cost_line = lambda _: "no estimate"
    if session["compiler"] != "inductor":
        compiled = partialmethod(torch.nn.Module.compile, backend=session["compiler"])
        torch.nn.Module.compile = compiled  # type: ignore[method-assign]
    if session["fault"]:
        inject(Fault(**session["fault"]))
    return fit(session["arguments"])


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
    "best about to be named": lambda: (_callback(), "_keep_as_best"),
    "best scored": lambda: (_module(), "test_step"),
}


if __name__ == "__main__":
    main()
