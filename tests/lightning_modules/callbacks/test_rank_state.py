"""What each process remembers besides the weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lightning_modules.callbacks.rank_state import RankState
from lightning_modules.multitask import MultiTaskModule
from tests.tiny import multitask, ready, trainer


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
    with pytest.warns(UserWarning, match="of 1 processes and this run has 2"):
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
