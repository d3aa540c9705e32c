"""A run with sharded weights stops and resumes exactly, also with another number of processes."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_modules.checkpoints import (
    SHARDS,
    consolidate_shards,
    read_checkpoint,
    read_index,
    read_spec,
)
from pipeline.run_folder import RunFolder
from pollinate.errors import PollinateError
from tests.rows.row import DATA
from tests.sessions import TASKS, Fault, Session, run_sessions
from tests.test_resume import history, same

pytestmark = pytest.mark.slow
read_once = cache(read_checkpoint)  # no test changes a run

TWO = ("trainer=fsdp2", "trainer.devices=2", "trainer.accelerator=cpu")
ON_TWO = ("trainer.strategy=fsdp2", "trainer.devices=2", "trainer.accelerator=cpu")
ON_ONE = ("trainer.strategy=auto", "trainer.devices=1")
SMALL = (
    *TASKS,
    "balancer=uncertainty",
    "trainer.accumulate_grad_batches=2",
    "sampler.steps_per_epoch=8",
    "checkpoint.every_n_steps=2",
)
STILL = (
    "optimizer=momentum",  # Adam makes much of rounding errors of small gradients
    "trunk.dropout=0",
    "encoder.image.dropout=0",
    "encoder.text.dropout=0",
)
FROZEN = (
    *(one for one in SMALL if not one.startswith(("encoder.text.", "dim="))),  # of another encoder
    "trainer.max_epochs=1",
    "dim=8",  # narrower than the model: there is a layer on top
    *STILL[:-1],
    "encoder/text=transformers",
    f"encoder.text.model={DATA / 'text_model'}",
    "encoder.text.weights=false",
    "encoder.text.tune=frozen",
    "data.text.dropout=0",
)
CODES = {
    "whole": [0],
    "stopped": [-9, 143, 0],
    "alone": [0],
    "moved": [143, 143, 0],
    "frozen": [0],
    "frozen alone": [0],
}


@dataclass(frozen=True)
class ShardedRuns:
    """What all sessions left."""

    root: Path
    codes: dict[str, list[int]]

    def folder(self, name: str) -> RunFolder:
        return RunFolder(self.root / name)

    def log(self, name: str) -> str:
        return (self.root / f"{name}.log").read_text()

    def last(self, name: str) -> dict[str, Any]:
        return read_once(self.folder(name).checkpoints / "last.ckpt")

    def summary(self, name: str) -> dict[str, Any]:
        return json.loads(self.folder(name).summary.read_text())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> ShardedRuns:
    root = tmp_path_factory.mktemp("fsdp2")
    shards = RunFolder(root / "stopped").checkpoints / SHARDS
    killed, ended = Fault("training step", 7), Fault("training step", 7, "SIGTERM")

    def session(name: str, *arguments: str, **options: Any) -> Session:
        return Session(arguments, str(root / f"{name}.log"), **options)

    def start(name: str, *arguments: str, **options: Any) -> Session:
        return session(name, *SMALL, *arguments, f"run_dir={root / name}", **options)

    def go_on(name: str, *arguments: str, **options: Any) -> Session:
        return session(name, f"resume={root / name}", *arguments, **options)

    def frozen(name: str) -> tuple[str, ...]:
        return *FROZEN, f"data.cache={root / 'cache'}", f"run_dir={root / name}"

    sessions = {
        "whole": [start("whole", *TWO, processes=2, model=True, estimate=True)],
        "stopped": [
            start("stopped", *TWO, fault=killed, processes=2),
            go_on("stopped", fault=ended, processes=2),
            go_on("stopped", torn=str(shards), processes=2),
        ],
        "alone": [start("alone", *STILL)],
        "moved": [
            start("moved", *STILL, fault=Fault("training step", 7, "SIGTERM")),
            go_on("moved", *ON_TWO, fault=ended, processes=2),
            go_on("moved", *ON_ONE),
        ],
        "frozen": [session("frozen", *frozen("frozen"), *TWO, processes=2)],
        "frozen alone": [session("frozen alone", *frozen("frozen alone"))],
    }
    codes = iter(run_sessions([one for many in sessions.values() for one in many], root))
    return ShardedRuns(root, {name: [next(codes) for _ in many] for name, many in sessions.items()})


@pytest.mark.parametrize("name", list(CODES))
def test_exit_codes_name_the_signals(name: str, runs: ShardedRuns) -> None:
    assert runs.codes[name] == CODES[name], runs.log(name)


@pytest.mark.parametrize(
    "part", ["state_dict", "optimizer_states", "lr_schedulers", "rank_states", "loops"]
)
def test_a_stopped_run_ends_bit_for_bit(part: str, runs: ShardedRuns) -> None:
    assert same(runs.last("stopped")[part], runs.last("whole")[part])


def test_a_stopped_run_has_one_history(runs: ShardedRuns) -> None:
    assert history(runs.folder("stopped")) == history(runs.folder("whole"))
    assert runs.summary("stopped")["test"] == runs.summary("whole")["test"]


def test_a_torn_shard_is_named_and_passed_over(runs: ShardedRuns) -> None:
    log = runs.log("stopped")
    assert "warning: checkpoint" in log and ".shard is torn or changed" in log
    assert "trying the one before it" in log


def test_kept_features_of_a_frozen_backbone_train_what_is_on_it(runs: ShardedRuns) -> None:
    assert list((runs.root / "cache" / "features").iterdir())
    found, expected = runs.last("frozen")["state_dict"], runs.last("frozen alone")["state_dict"]
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.allclose(found[name], weight, rtol=0, atol=1e-4), name


def test_a_run_goes_on_with_another_number_of_processes(runs: ShardedRuns) -> None:
    found, expected = runs.last("moved")["state_dict"], runs.last("alone")["state_dict"]
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.allclose(found[name], weight, rtol=0, atol=1e-4), name
    assert "it resumes from the same weights, but not bit for bit" in runs.log("moved")


def test_the_best_ends_as_one_plain_file(runs: ShardedRuns) -> None:
    folder = runs.folder("whole").checkpoints
    best = torch.load(folder / "best.ckpt", weights_only=True)
    assert SHARDS not in best
    assert not any(value.is_meta for value in best["state_dict"].values())
    assert (runs.folder("whole").model / "data" / "weights.ckpt").exists()


def test_shards_that_nothing_names_are_deleted(runs: ShardedRuns) -> None:
    folder = runs.folder("stopped").checkpoints
    named = {name for path in folder.glob("*.ckpt") for name in read_index(path).get(SHARDS, [])}
    assert {path.name for path in (folder / SHARDS).iterdir()} == named
    assert len(named) == 4  # of last and previous


def test_each_shard_holds_half(runs: ShardedRuns) -> None:
    folder = runs.folder("whole").checkpoints
    whole = read_checkpoint(folder / "last.ckpt")["state_dict"]
    names = read_index(folder / "last.ckpt")[SHARDS]
    parts = [torch.load(folder / SHARDS / n, weights_only=True)["tensors"] for n in names]
    sizes = [
        sum(t.numel() for place, t in part.items() if place.startswith("/state_dict/"))
        for part in parts
    ]
    total = sum(value.numel() for value in whole.values())
    assert sum(sizes) > 0.9 * total
    assert max(sizes) < 0.6 * total


def test_a_checkpoint_without_its_shards_says_so(runs: ShardedRuns, tmp_path: Path) -> None:
    source = runs.folder("whole").checkpoints / "last.ckpt"
    copy = tmp_path / "last.ckpt"
    copy.write_bytes(source.read_bytes())
    with pytest.raises(PollinateError, match="lacks its shard"):
        read_spec(copy)
    shutil.copytree(source.parent / SHARDS, tmp_path / SHARDS)
    consolidate_shards(copy)
    assert same(torch.load(copy, weights_only=True)["state_dict"], runs.last("whole")["state_dict"])
