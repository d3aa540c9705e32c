"""A run that is stopped anywhere and resumed ends as one that was never stopped, bit for bit."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.run_folder import RunFolder
from pipeline.tracking.journals import read_points
from pollinate.overrides import override
from tests import sessions
from tests.sessions import ADAPTED, FROZEN, STREAMED, TASKS, Fault, Session, run_sessions

pytestmark = pytest.mark.slow

SMOKE = (*sessions.SMOKE, "sampler.steps_per_epoch=12")
CODES = {"SIGKILL": -9, "SIGTERM": 143, "SIGINT": 130}
History = dict[tuple[str, int], float | None]


@dataclass(frozen=True)
class ResumeCase:
    """A run that meets ``faults`` one after another, each in the session that resumes it.

    options: of the run; like: options of the run that it must equal, default the same.
    """

    name: str
    faults: tuple[Fault, ...]
    options: tuple[str, ...] = ()
    like: tuple[str, ...] | None = None
    base: tuple[str, ...] = SMOKE
    pauses: tuple[int, ...] = ()  # epochs after which its first sessions pause
    torn: bool = False  # last.ckpt is torn before the last session

    def __str__(self) -> str:
        return self.name

    @property
    def reference(self) -> tuple[str, ...]:
        return (*self.base, *(self.options if self.like is None else self.like))


def reference_name(options: Sequence[str]) -> str:
    """Return the folder of the run of these options that nothing interrupts."""
    return f"uninterrupted {sha256(' '.join(options).encode()).hexdigest()[:12]}"


EPOCHS = ("sampler.steps_per_epoch=4", "trainer.max_epochs=4", "checkpoint.every_n_steps=3")
# an option's state must survive beside others: what doesn't exclude each other is in one case
AVERAGED = ("ema_decay=0.9", "optimizer=momentum", "early_stopping.patience=3")
ADAPTIVE = ("sampler=adaptive", "sampler.bucket=4", "sampler.rate=1.0", "trainer.max_epochs=3")
EVERY = ("trainer.log_every_n_steps=1",)
SOURCE = reference_name(SMOKE)  # it runs first
CASES = (
    # one balancer and trunk of each family, with state in parameters, in buffers and in what it saw
    # of a step; all go on from checkpoints in tests/lightning_modules/test_resumed_states.py
    ResumeCase(
        "a penalty and learnt weights and accumulated",
        (Fault("backward", 22),),
        ("trunk=dselect_k", "balancer=uncertainty", "trainer.accumulate_grad_batches=2", *EVERY),
    ),
    ResumeCase(
        "draws and rates of tasks and validated within epochs",
        (Fault("training step", 11), Fault("validation step", 7)),
        (
            "trunk=learning_to_branch",
            "balancer=dynamic_weight_average",
            "trainer.val_check_interval=0.5",
            *EPOCHS,
            *EVERY,
        ),
    ),
    ResumeCase(
        "gauges and losses after a step and averages and early stopping",
        (Fault("training step", 17), Fault("best scored", 2)),
        ("trunk=ple", "balancer=cagrad", "balancer.losses=famo", *AVERAGED, *EVERY),
    ),
    ResumeCase(
        "means of gradients and adaptive sampler",
        (Fault("end of validation", 1), Fault("training step", 25)),
        ("balancer=moco", *ADAPTIVE, *EVERY),
    ),
    ResumeCase(  # one after another; each session counts anew
        "killed anywhere",
        (
            Fault("training step", 3),  # before the first checkpoint
            Fault("checkpoint about to be written", 2),
            Fault("checkpoint written, not renamed", 2),
            Fault("training step", 6),  # twice within an epoch
            Fault("training step", 6),
            Fault("validation step", 3),
            Fault("end of validation", 1),
            Fault("best scored", 2),
        ),
    ),
    ResumeCase("killed before the best one has its name", (Fault("best about to be named", 2),)),
    ResumeCase(
        "SIGTERM and SIGINT while validating and torn last.ckpt",
        (Fault("training step", 14, "SIGTERM"), Fault("validation step", 2, "SIGINT")),
        torn=True,
    ),
    ResumeCase("paused", (), like=(), pauses=(1,)),
    ResumeCase("workers", (Fault("training step", 14),), ("loader.workers=2",), like=()),
    ResumeCase(
        "every type of task", (Fault("training step", 7), Fault("best scored", 1)), base=TASKS
    ),
    ResumeCase(
        "near a source and unfreezing and max_steps",
        (Fault("training step", 14), Fault("validation step", 3), Fault("best scored", 2)),
        (
            "transfer=l2_sp",
            f"transfer.source={SOURCE}",
            "encoder.image.tune=gradual",
            "encoder.image.tune.every=6",
            "trainer.max_steps=17",
        ),
    ),
    ResumeCase("adapters of each task", (Fault("training step", 14),), EPOCHS, base=ADAPTED),
    ResumeCase("kept features", (Fault("training step", 15),), base=FROZEN),
    ResumeCase("streamed rows", (Fault("training step", 15),), base=STREAMED),
    ResumeCase(
        "streamed rows in workers",
        (Fault("training step", 6),),
        ("loader.workers=2",),
        like=(),
        base=STREAMED,
    ),
    ResumeCase(
        "final test after early stopping",
        (Fault("best scored", 2),),
        ("early_stopping.patience=1", "early_stopping.min_delta=0.9", "trainer.max_epochs=4"),
    ),
)


@dataclass(frozen=True)
class ResumedRuns:
    """What all sessions left: exit codes by case, and folders."""

    root: Path
    codes: dict[str, list[int]]

    def folder(self, case: ResumeCase) -> RunFolder:
        return RunFolder(self.root / case.name)

    def reference(self, case: ResumeCase) -> RunFolder:
        return RunFolder(self.root / reference_name(case.reference))

    def log(self, case: ResumeCase) -> str:
        return log_of(self.root, case.name).read_text()


def log_of(root: Path, name: str) -> Path:
    return root / f"{name}.log"


def sessions_of(
    root: Path, name: str, options: Sequence[str], case: ResumeCase | None
) -> list[Session]:
    """The first session of a run and those that resume it, the last one without a fault."""
    start, again = [*options, f"run_dir={root / name}"], [f"resume={root / name}"]
    log = str(log_of(root, name))
    if case and case.pauses:
        paused = [[f"pause_after={epochs}"] for epochs in case.pauses]
        words = [[*(again if n else start), *own] for n, own in enumerate([*paused, []])]
        return [Session(one, log) for one in words]
    faults = [*case.faults, None] if case else [None]
    torn = str(RunFolder(root / name).checkpoints / "last.ckpt") if case and case.torn else None
    estimate = name == SOURCE  # what resumes it does not, and is the same
    return [
        Session(again if n else start, log, fault, None if fault else torn, estimate=estimate)
        for n, fault in enumerate(faults)
    ]


CONFLICT = "conflict"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> ResumedRuns:
    root = tmp_path_factory.mktemp("runs")
    planned = {SOURCE: sessions_of(root, SOURCE, SMOKE, None)}
    for case in CASES:
        alone = reference_name(case.reference)
        planned.setdefault(alone, sessions_of(root, alone, case.reference, None))
        planned[case.name] = sessions_of(root, case.name, (*case.base, *case.options), case)
    finished = root / reference_name(SMOKE)
    conflicting = [f"resume={finished}", "balancer=uncertainty"]
    planned[CONFLICT] = [Session(conflicting, str(log_of(root, CONFLICT)))]
    codes = iter(run_sessions([one for many in planned.values() for one in many], root))
    return ResumedRuns(root, {name: [next(codes) for _ in many] for name, many in planned.items()})


@cache
def last_checkpoint(folder: RunFolder) -> dict[str, Any]:
    return torch.load(folder.checkpoints / "last.ckpt", weights_only=True)


def history(folder: RunFolder) -> History:
    """{(metric, step): value}; each must be there once. The speed is not a result.

    None: there is no value, as of the area under the curve of a label that no row has. NaN doesn't
    equal itself.
    """
    points = [p for p in read_points(folder.metrics) if p.key != "train/steps_per_second"]
    found = {
        (point.key, point.step): None if math.isnan(point.value) else point.value
        for point in points
    }
    assert len(found) == len(points)
    return found


def summary(folder: RunFolder) -> dict[str, Any]:
    return json.loads(folder.summary.read_text())


def same(one: Any, other: Any) -> bool:
    """Say whether two nested containers hold the same, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


each_case = pytest.mark.parametrize("case", CASES, ids=str)


@each_case
def test_exit_codes_name_the_signals(case: ResumeCase, runs: ResumedRuns) -> None:
    expected = [*(CODES[fault.signal] for fault in case.faults), *(0 for _ in case.pauses), 0]
    assert runs.codes[case.name] == expected, runs.log(case)
    assert runs.codes[reference_name(case.reference)] == [0]


@each_case
def test_last_checkpoint_is_the_same(case: ResumeCase, runs: ResumedRuns) -> None:
    """That is weights, optimizer, schedule, progress, random states and unfinished sums."""
    found, expected = (last_checkpoint(f) for f in (runs.folder(case), runs.reference(case)))
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "loops", "rank_states"):
        assert same(found[part], expected[part]), part


@each_case
def test_history_is_the_same(case: ResumeCase, runs: ResumedRuns) -> None:
    assert history(runs.folder(case)) == history(runs.reference(case))


@each_case
def test_summary_is_the_same(case: ResumeCase, runs: ResumedRuns) -> None:
    found, expected = summary(runs.folder(case)), summary(runs.reference(case))
    assert found["status"] == expected["status"] == "finished"
    for part in ("steps", "valid", "test", "baseline", "rows_seen"):
        assert found[part] == expected[part], part


def resume_command(folder: str) -> str:
    return f"python -m pipeline.fit {shlex.quote(override('resume', folder))}"


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT"])
def test_signal_says_how_to_go_on(signal: str, runs: ResumedRuns) -> None:
    case = next(c for c in CASES if signal in {fault.signal for fault in c.faults})
    assert f"stopped by {signal}; everything is saved" in runs.log(case)
    assert resume_command(runs.folder(case).path.name) in runs.log(case)


def test_a_pause_says_how_to_go_on(runs: ResumedRuns) -> None:
    case = next(c for c in CASES if c.pauses)
    assert "paused after 1 epoch; everything is saved" in runs.log(case)
    assert resume_command(runs.folder(case).path.name) in runs.log(case)


def test_torn_checkpoint_is_named(runs: ResumedRuns) -> None:
    case = next(c for c in CASES if c.torn)
    torn = runs.folder(case).checkpoints / "last.ckpt"
    assert f"warning: checkpoint {torn} is torn or changed" in runs.log(case)
    assert "trying the one before it" in runs.log(case)


def test_conflicting_key_is_refused(runs: ResumedRuns) -> None:
    message = log_of(runs.root, CONFLICT).read_text()
    assert runs.codes[CONFLICT] == [2], message
    assert "balancer._target_ is 'pollinate.balancers.Uncertainty'" in message
    assert "the checkpoint has 'pollinate.balancers.Equal'" in message
