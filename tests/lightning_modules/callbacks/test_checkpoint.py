"""Where a run can go on exactly, and the best."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_modules import checkpoints
from lightning_modules.callbacks import checkpoint
from lightning_modules.callbacks.checkpoint import RankState, RunCheckpoint, link
from lightning_modules.callbacks.stopping import StopTraining
from lightning_modules.flushable_logger import FlushableLogger
from lightning_modules.module import MultiTaskModule
from pollinate.interrupt import StopRequest
from tests.tiny import multitask, ready, trainer

EPOCH_STEPS = 4


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(name, optimizer steps) of every checkpoint file that is written."""
    found = []
    write = checkpoints.write_checkpoint

    def spy(content: dict[str, Any], path: Path) -> None:
        found.append((path.name, content["global_step"]))
        write(content, path)

    monkeypatch.setattr(checkpoints, "write_checkpoint", spy)
    return found


class Kept(FlushableLogger):
    """Notes how far the checkpoint was when it was flushed."""

    name, version = "kept", 0

    def __init__(self, last: Path) -> None:
        super().__init__()
        self.last, self.there = last, list[bool]()

    def flush(self) -> None:
        self.there.append(self.last.exists())

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Leave them."""

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Leave them."""


def test_loggers_write_down_what_they_have_before_a_checkpoint(tmp_path: Path) -> None:
    data, stop, logger = ready(), StopTraining(StopRequest()), Kept(tmp_path / "last.ckpt")
    keep = RunCheckpoint(tmp_path, stop, 100, "valid/score", "max")
    one = trainer(tmp_path, [stop, RankState(), keep], max_epochs=1)
    one.loggers = [logger]
    one.fit(multitask(data), datamodule=data)
    assert logger.there == [False]
    assert logger.last.exists()


def fit(folder: Path, scores: tuple[float, ...], every: int = 3, **options: Any) -> RunCheckpoint:
    """Train an epoch for every score."""
    data, stop = ready(), StopTraining(StopRequest())
    mode = options.pop("mode", "max")
    keep = RunCheckpoint(folder, stop, every, "valid/score", mode)
    epochs = options.pop("max_epochs", len(scores))
    module, left = multitask(data), iter(scores)
    # the given validation scores, one after the other
    module.on_validation_epoch_end = lambda: module.log("valid/score", next(left))  # type: ignore[method-assign]
    callbacks = [stop, RankState(), keep]
    trainer(folder, callbacks, max_epochs=epochs, **options).fit(module, datamodule=data)
    return keep


def steps(folder: Path) -> dict[str, int]:
    """{name: optimizer steps} of the files that are there."""
    return {
        path.stem: torch.load(path, weights_only=True)["global_step"]
        for path in folder.glob("*.ckpt")
    }


class Reached(Callback):
    """Has its aim from the start."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = True


def test_a_run_that_takes_no_step_leaves_its_start(tmp_path: Path) -> None:
    data, stop = ready(), StopTraining(StopRequest())
    keep = RunCheckpoint(tmp_path, stop, 3, "valid/score", "max")
    fit = trainer(tmp_path, [Reached(), stop, RankState(), keep], max_epochs=1)
    fit.fit(multitask(data), datamodule=data)
    assert steps(tmp_path) == {"last": 0, "best": 0}


def test_last_is_written_every_n_steps_and_after_epochs(tmp_path: Path, written: Any) -> None:
    fit(tmp_path, (0.1, 0.2), every=3)
    # not at step 4 + 3 alone: the count starts anew at every save
    assert written == [("last.ckpt", step) for step in (3, 4, 7, 8)]


def test_the_last_but_one_is_kept(tmp_path: Path) -> None:
    fit(tmp_path, (0.1, 0.2), every=3)
    assert steps(tmp_path) == {"last": 8, "previous": 7, "best": 8}


@pytest.mark.parametrize(
    ("scores", "mode", "best"),
    [
        ((0.1, 0.3, 0.2), "max", 8),
        ((0.1, 0.3, 0.2), "min", 4),
        ((0.3, 0.3, 0.3), "max", 4),  # the first of equals
        ((0.0, -1.0, -2.0), "max", 4),
        ((float("nan"), 0.1, float("nan")), "max", 8),
    ],
)
def test_best_is_that_of_the_monitor(
    scores: tuple[float, ...], mode: str, best: int, tmp_path: Path
) -> None:
    keep = fit(tmp_path, scores, mode=mode)
    assert steps(tmp_path)["best"] == keep.best_step == best


def test_best_of_an_epoch_is_a_second_name_of_last(tmp_path: Path) -> None:
    fit(tmp_path, (0.1,))
    assert (tmp_path / "best.ckpt").samefile(tmp_path / "last.ckpt")


def test_best_survives_the_next_last(tmp_path: Path) -> None:
    fit(tmp_path, (0.2, 0.1), every=1)
    assert steps(tmp_path) == {"last": 8, "previous": 7, "best": 4}


def test_best_within_an_epoch_is_written_alone(tmp_path: Path, written: Any) -> None:
    fit(tmp_path, (0.2, 0.1), every=100, max_epochs=1, val_check_interval=0.5)
    assert written == [("best.ckpt", 2), ("last.ckpt", 4)]


def test_last_is_never_written_before_a_validation(tmp_path: Path, written: Any) -> None:
    """Lightning would skip that validation when it resumes."""
    fit(tmp_path, (0.2, 0.1), every=1, max_epochs=1, val_check_interval=0.5)
    assert [step for name, step in written if name == "last.ckpt"] == [1, 3, 4]


def test_last_is_never_written_within_an_accumulation(tmp_path: Path, written: Any) -> None:
    fit(tmp_path, (0.2,), every=1, accumulate_grad_batches=2)
    assert [step for name, step in written if name == "last.ckpt"] == [1, 2]


def test_a_folder_without_hard_links_gets_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    source, target = tmp_path / "last.ckpt", tmp_path / "best.ckpt"
    source.write_bytes(b"new")
    target.write_bytes(b"old")
    link(source, target)
    assert target.read_bytes() == b"new"
    assert not target.samefile(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]


def test_a_file_that_has_its_second_name_already_leaves_no_third(tmp_path: Path) -> None:
    """A run that is killed between the second name and the next last.ckpt leaves both."""
    source, target = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    source.write_bytes(b"new")
    for _ in range(2):
        link(source, target)
    assert target.samefile(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "previous.ckpt"]


def test_state_round_trip(tmp_path: Path) -> None:
    keep = fit(tmp_path, (0.1, 0.3))
    other = RunCheckpoint(tmp_path, keep.stop, 3, "valid/score", "max")
    assert other.best == checkpoint.WORSE_THAN_ANY["max"]
    other.load_state_dict(keep.state_dict())
    assert (other.best, other.best_step, other.saved_step) == (pytest.approx(0.3), 8, 8)


@pytest.mark.parametrize("harm", ["torn", "gone"])
def test_a_damaged_best_is_no_best(tmp_path: Path, harm: str) -> None:
    keep = fit(tmp_path, (0.1, 0.3))
    (tmp_path / "best.ckpt").unlink()
    if harm == "torn":
        (tmp_path / "best.ckpt").write_bytes(b"PK")
    other = RunCheckpoint(tmp_path, keep.stop, 3, "valid/score", "max")
    with pytest.warns(UserWarning, match=r"best.ckpt of step 8 is damaged or gone"):
        other.load_state_dict(keep.state_dict())
    assert (other.best, other.best_step, other.saved_step) == (-float("inf"), None, 8)
    assert not (tmp_path / "best.ckpt").exists()


@pytest.fixture
def module() -> MultiTaskModule:
    return multitask(ready())


def alone(world: int = 1, rank: int = 0) -> Any:
    return SimpleNamespace(world_size=world, global_rank=rank)


def saved(module: MultiTaskModule) -> dict[str, Any]:
    checkpoint: dict[str, Any] = {}
    RankState().on_save_checkpoint(alone(), module, checkpoint)
    return checkpoint


def test_random_numbers_go_on(module: MultiTaskModule) -> None:
    checkpoint, state = saved(module), RankState()
    expected = torch.rand(3)
    state.on_load_checkpoint(alone(), module, checkpoint)
    torch.rand(100)  # what set-up draws
    state.on_train_start(alone(), module)
    assert torch.equal(torch.rand(3), expected)


def test_random_numbers_are_restored_once(module: MultiTaskModule) -> None:
    checkpoint, state = saved(module), RankState()
    state.on_load_checkpoint(alone(), module, checkpoint)
    state.on_train_start(alone(), module)
    first = torch.rand(3)
    state.on_train_start(alone(), module)
    assert not torch.equal(torch.rand(3), first)


def test_sums_are_there_even_if_no_training_follows(module: MultiTaskModule) -> None:
    module.progress.rows = {"notes": 5, "shapes": 7}
    checkpoint, other = saved(module), multitask(ready())
    RankState().on_load_checkpoint(alone(), other, checkpoint)
    assert other.progress.rows == {"notes": 5, "shapes": 7}


def test_another_number_of_processes_is_said(module: MultiTaskModule) -> None:
    with pytest.warns(UserWarning, match="by 1 processes and this run has 2"):
        RankState().on_load_checkpoint(alone(world=2), module, saved(module))


def test_a_run_without_checkpoint_draws_as_it_would(module: MultiTaskModule) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    RankState().on_train_start(alone(), module)
    assert torch.equal(torch.rand(3), expected)


def test_checkpoint_of_a_trainer_has_it(tmp_path: Path) -> None:
    data = ready()
    module = multitask(data)
    fit = trainer(tmp_path, [RankState()], max_epochs=1)
    fit.fit(module, datamodule=data)
    fit.save_checkpoint(tmp_path / "a.ckpt")
    (state,) = torch.load(tmp_path / "a.ckpt", weights_only=True)["rank_states"]
    assert state["module"]["rows_seen"] == module.progress.rows
