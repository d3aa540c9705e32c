"""Processes that step on their own: what they average, when, and that they resume exactly."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_modules.checkpoints import SHARDS, read_checkpoint, read_index
from pipeline.run_folder import RunFolder
from tests.sessions import SMOKE, TASKS, Fault, Session, run_sessions
from tests.test_resume import history, same

pytestmark = pytest.mark.slow
read_once = cache(read_checkpoint)  # no test changes a run

DILOCO = ("trainer=diloco", "trainer.accelerator=cpu", "trainer.averaging.every_n_steps=5")
# FAMO keeps a state that differs between processes, and looks at a step's losses once more
BALANCED = (*TASKS, "balancer=famo", "optimizer=adam", "sampler.batch_size=7")
LINEAR = (  # the mean of the processes' steps is then the step of the mean gradient
    *SMOKE,
    "optimizer=sgd",
    "optimizer.weight_decay=0",  # a process without rows of a task leaves its head alone
    "trainer.gradient_clip_val=null",
    "trainer.precision=64-true",
    "trainer.accelerator=cpu",
    "trainer.accumulate_grad_batches=2",
    "trainer.max_epochs=-1",
    "trainer.max_steps=9",
    "sampler.batch_size=7",  # one process has more rows than the other, or all of a data set
    "trunk.dropout=0",
    "data.text.dropout=0",
    "encoder.image.dropout=0",
    "encoder.text.dropout=0",
)
MOVED = (*TASKS, *DILOCO, "trainer.max_epochs=1")
CODES = {"whole": [0], "stopped": [-9, 143, 0], "ddp": [0], "every step": [0], "moved": [0, 0]}


@dataclass(frozen=True)
class LocalRuns:
    """What all sessions left."""

    root: Path
    codes: dict[str, list[int]]

    def folder(self, name: str) -> RunFolder:
        return RunFolder(self.root / name)

    def last(self, name: str) -> dict[str, Any]:
        return read_once(self.folder(name).checkpoints / "last.ckpt")

    def summary(self, name: str) -> dict[str, Any]:
        return json.loads(self.folder(name).summary.read_text())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> LocalRuns:
    root = tmp_path_factory.mktemp("local")

    def session(name: str, *arguments: str, **options: Any) -> Session:
        return Session(arguments, str(root / f"{name}.log"), **options, processes=2)

    def start(name: str, *arguments: str, **options: Any) -> Session:
        return session(name, *arguments, f"run_dir={root / name}", **options)

    going_on = f"resume={root / 'stopped'}"
    killed, ended = Fault("training step", 12), Fault("training step", 3, "SIGTERM")
    every = ("trainer=local_sgd", "trainer.averaging.every_n_steps=1")
    sessions = {
        "whole": [start("whole", *BALANCED, *DILOCO, estimate=True)],
        "stopped": [
            start("stopped", *BALANCED, *DILOCO, fault=killed),
            session("stopped", going_on, fault=ended),
            session("stopped", going_on),
        ],
        "ddp": [start("ddp", "trainer=ddp", *LINEAR)],
        "every step": [start("every step", *every, *LINEAR)],
        "moved": [
            start("moved", *MOVED),
            Session(
                (f"resume={root / 'moved'}", "trainer.max_epochs=2", "trainer.devices=1"),
                str(root / "moved.log"),
            ),
        ],
    }
    codes = iter(run_sessions([one for many in sessions.values() for one in many], root))
    return LocalRuns(root, {name: [next(codes) for _ in many] for name, many in sessions.items()})


@pytest.mark.parametrize("name", list(CODES))
def test_exit_codes_name_the_signals(name: str, runs: LocalRuns) -> None:
    log = (runs.root / f"{name}.log").read_text()
    assert runs.codes[name] == CODES[name], log


@pytest.mark.parametrize(
    "part", ["state_dict", "optimizer_states", "lr_schedulers", "rank_states", "loops", "callbacks"]
)
def test_a_stopped_run_ends_bit_for_bit(part: str, runs: LocalRuns) -> None:
    assert same(runs.last("stopped")[part], runs.last("whole")[part])


def test_every_process_ends_with_its_own_optimizer(runs: LocalRuns) -> None:
    own = {}
    for name in ("stopped", "whole"):
        folder = runs.folder(name).checkpoints
        files = read_index(folder / "last.ckpt")[SHARDS]
        own[name] = [torch.load(folder / SHARDS / f, weights_only=True) for f in files]
    assert same(own["stopped"], own["whole"])
    first, second = (part["optimizer_states"] for part in own["whole"])
    assert not same(first, second)


def test_every_process_ends_with_its_own_balance(runs: LocalRuns) -> None:
    first, second = (state["module"]["parts"] for state in runs.last("whole")["rank_states"])
    assert not same(first["balancer"], second["balancer"])


def test_a_stopped_run_has_one_history(runs: LocalRuns) -> None:
    assert history(runs.folder("stopped")) == history(runs.folder("whole"))
    found, expected = runs.summary("stopped"), runs.summary("whole")
    for name in ("test", "rows_seen", "floats_sent", "synchronisations"):
        assert found[name] == expected[name], name


def test_averaging_after_every_step_is_the_synchronous_run(runs: LocalRuns) -> None:
    found, expected = (runs.last(name)["state_dict"] for name in ("every step", "ddp"))
    assert runs.last("ddp")["global_step"] == 9
    for name, weight in expected.items():
        assert torch.allclose(found[name], weight, rtol=0, atol=1e-6), name
    found, expected = (runs.summary(name) for name in ("every step", "ddp"))
    for task, scores in expected["test"].items():
        assert found["test"][task] == pytest.approx(scores), task
    assert found["rows_seen"] == expected["rows_seen"]


def test_what_is_sent_is_counted(runs: LocalRuns) -> None:
    weights = runs.last("every step")["state_dict"]
    floats = sum(w.numel() for w in weights.values() if w.is_floating_point())
    for name in ("every step", "ddp"):
        summary = runs.summary(name)
        assert (summary["synchronisations"], summary["floats_sent"]) == (9, 9 * floats)
    # 24 steps in two epochs: after 5, 10, 12, 17, 22, 24
    assert runs.summary("whole")["synchronisations"] == 6


def test_another_number_of_processes_goes_on_from_the_same_weights(runs: LocalRuns) -> None:
    assert "not bit for bit" in (runs.root / "moved.log").read_text()
    assert runs.summary("moved")["steps"] == 24
