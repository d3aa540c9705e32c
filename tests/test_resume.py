"""A run that is stopped anywhere and resumed ends as one that was never stopped, bit for bit."""

from __future__ import annotations

import json
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
from tests.rows.balancers import BALANCERS
from tests.sessions import ADAPTED, FROZEN, SMOKE, STREAMED, TASKS, Fault, Session, run_sessions

pytestmark = pytest.mark.slow

CODES = {"SIGKILL": -9, "SIGTERM": 143, "SIGINT": 130}
History = dict[tuple[str, int], float]


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
    torn: bool = False  # last.ckpt is torn before the last session

    def __str__(self) -> str:
        return self.name

    @property
    def reference(self) -> tuple[str, ...]:
        return (*self.base, *(self.options if self.like is None else self.like))


def reference_name(options: Sequence[str]) -> str:
    """Return the folder of the run of these options that nothing interrupts."""
    return f"uninterrupted {sha256(' '.join(options).encode()).hexdigest()[:12]}"


AVERAGED = ("ema_decay=0.9", "optimizer=momentum", "early_stopping.patience=3")
ADAPTIVE = ("sampler=adaptive", "sampler.bucket=4", "sampler.rate=1.0", "trainer.max_epochs=3")
EPOCHS = ("sampler.steps_per_epoch=4", "trainer.max_epochs=4", "checkpoint.every_n_steps=3")
EVERY = ("trainer.log_every_n_steps=1",)
BALANCED = {row.option: (f"balancer={row.option}",) for row in BALANCERS}
BALANCED |= {"famo in cagrad": ("balancer=cagrad", "balancer.losses=famo")}
SOURCE = reference_name(SMOKE)  # it runs first
TRUNKS = ("dselect_k", "learning_to_branch", "ple")  # with a penalty, draws, gauges
CASES = (
    *(
        ResumeCase(
            f"trunk {name}", (Fault("training step", 14),), (f"trunk={name}", *EPOCHS, *EVERY)
        )
        for name in TRUNKS
    ),
    *(
        ResumeCase(f"balancer {name}", (Fault("training step", 14),), (*options, *EPOCHS))
        for name, options in BALANCED.items()
    ),
    ResumeCase("twice within an epoch", (Fault("training step", 13), Fault("training step", 18))),
    ResumeCase("before the first checkpoint", (Fault("training step", 3),)),
    ResumeCase("validation", (Fault("validation step", 3),)),
    ResumeCase("end of validation", (Fault("end of validation", 1),)),
    ResumeCase("checkpoint not renamed", (Fault("checkpoint written, not renamed", 3),)),
    ResumeCase("checkpoint not written", (Fault("checkpoint about to be written", 5),)),
    ResumeCase("final test", (Fault("best scored", 2),), AVERAGED),
    ResumeCase("SIGTERM", (Fault("training step", 14, "SIGTERM"),)),
    ResumeCase("SIGINT while validating", (Fault("validation step", 2, "SIGINT"),)),
    ResumeCase("torn last.ckpt", (Fault("training step", 14),), torn=True),
    ResumeCase("workers", (Fault("training step", 14),), ("loader.workers=2",), like=()),
    ResumeCase("accumulation", (Fault("backward", 22),), ("trainer.accumulate_grad_batches=2",)),
    ResumeCase(
        "moving average and early stopping",
        (Fault("training step", 31),),
        AVERAGED,
    ),
    ResumeCase(
        "validation within epochs",
        (Fault("training step", 12), Fault("validation step", 7)),
        ("trainer.val_check_interval=0.3",),
    ),
    ResumeCase(
        "adaptive sampler", (Fault("end of validation", 1), Fault("training step", 25)), ADAPTIVE
    ),
    ResumeCase(
        "every type of task", (Fault("training step", 7), Fault("best scored", 1)), base=TASKS
    ),
    ResumeCase(
        "near a source and unfreezing",
        (Fault("training step", 14),),
        (
            "transfer=l2_sp",
            f"transfer.source={SOURCE}",
            "encoder.image.tune=gradual",
            "encoder.image.tune.every=6",
            *EPOCHS,
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
    ResumeCase("max_steps", (Fault("training step", 30),), ("trainer.max_steps=33",)),
    ResumeCase("last validation", (Fault("validation step", 6),), ("trainer.max_steps=33",)),
    ResumeCase("final test after max_steps", (Fault("best scored", 2),), ("trainer.max_steps=33",)),
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
    sessions = {SOURCE: sessions_of(root, SOURCE, SMOKE, None)}
    for case in CASES:
        alone = reference_name(case.reference)
        sessions.setdefault(alone, sessions_of(root, alone, case.reference, None))
        sessions[case.name] = sessions_of(root, case.name, (*case.base, *case.options), case)
    finished = root / reference_name(SMOKE)
    conflicting = [f"resume={finished}", "balancer=uncertainty"]
    sessions[CONFLICT] = [Session(conflicting, str(log_of(root, CONFLICT)))]
    codes = iter(run_sessions([one for many in sessions.values() for one in many], root))
    return ResumedRuns(root, {name: [next(codes) for _ in many] for name, many in sessions.items()})


@cache
def last_checkpoint(folder: RunFolder) -> dict[str, Any]:
    return torch.load(folder.checkpoints / "last.ckpt", weights_only=True)


def history(folder: RunFolder) -> History:
    """{(metric, step): value}; each must be there once. The speed is not a result."""
    points = [p for p in read_points(folder.metrics) if p.key != "train/steps_per_second"]
    found = {(point.key, point.step): point.value for point in points}
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
    expected = [*(CODES[fault.signal] for fault in case.faults), 0]
    assert runs.codes[case.name] == expected, runs.log(case)
    assert runs.codes[reference_name(case.reference)] == [0]


@pytest.mark.parametrize("part", ["state_dict", "optimizer_states", "lr_schedulers", "loops"])
@each_case
def test_last_checkpoint_is_the_same(case: ResumeCase, part: str, runs: ResumedRuns) -> None:
    found, expected = (last_checkpoint(f) for f in (runs.folder(case), runs.reference(case)))
    assert same(found[part], expected[part])


@each_case
def test_random_states_and_unfinished_sums_are_the_same(
    case: ResumeCase, runs: ResumedRuns
) -> None:
    found, expected = (last_checkpoint(f) for f in (runs.folder(case), runs.reference(case)))
    assert same(found["rank_states"], expected["rank_states"])


@each_case
def test_history_is_the_same(case: ResumeCase, runs: ResumedRuns) -> None:
    assert history(runs.folder(case)) == history(runs.reference(case))


@each_case
@pytest.mark.parametrize("part", ["steps", "valid", "test", "baseline", "rows_seen"])
def test_summary_is_the_same(case: ResumeCase, part: str, runs: ResumedRuns) -> None:
    found, expected = summary(runs.folder(case)), summary(runs.reference(case))
    assert found["status"] == expected["status"] == "finished"
    assert found[part] == expected[part]


def resume_command(folder: str) -> str:
    return f"python -m pipeline.fit {shlex.quote(f'resume={folder}')}"


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT"])
def test_signal_says_how_to_go_on(signal: str, runs: ResumedRuns) -> None:
    case = next(c for c in CASES if c.faults[0].signal == signal)
    assert f"stopped by {signal}; everything is saved" in runs.log(case)
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
