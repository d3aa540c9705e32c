"""What an ensemble has in common with a network, and what it doesn't."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.building import build_combination
from lightning_modules.evaluation_module import EvaluationModule
from lightning_modules.merging.ensemble import Ensemble
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.task_network import TaskNetwork
from lightning_modules.tasks.base import as_task
from pollinate.errors import UsageError
from tests.tiny import network, ready, trainer


def two(data: MixedDataModule) -> tuple[Ensemble, list[MultiTaskNetwork]]:
    members = [network(data).eval(), network(data).eval()]
    tasks = {name: as_task(spec) for name, spec in data.tasks.items()}
    return Ensemble(members, tasks, members[0].routes), members


def test_it_answers_as_a_network_and_has_nothing_else_of_one() -> None:
    data = ready()
    ensemble, members = two(data)
    batches = next(iter(data.train_dataloader())).batches
    found = ensemble(batches)
    for task, output in found.items():
        mean = torch.stack([one(batches)[task].softmax(dim=1) for one in members]).mean(dim=0)
        torch.testing.assert_close(output.softmax(dim=1), mean)
    assert ensemble(batches, ["notes"]).keys() == {"notes"}
    assert isinstance(ensemble, TaskNetwork)
    assert not hasattr(ensemble, "trunk")
    assert list(ensemble.networks) == members
    assert members[0].networks == (members[0],)


def test_an_ensemble_of_ensembles_is_their_mean() -> None:
    data = ready()
    ensemble, _members = two(data)
    batches = next(iter(data.train_dataloader())).batches
    nested = Ensemble([ensemble, ensemble], ensemble.tasks, ensemble.routes)
    for task, output in nested(batches).items():
        torch.testing.assert_close(output.softmax(1), ensemble(batches)[task].softmax(1))


def test_it_is_scored_by_any_trainer(tmp_path: Path) -> None:
    data = ready()
    ensemble, _ = two(data)
    module = EvaluationModule(ensemble, ensemble.tasks)
    (found,) = trainer(tmp_path, []).test(module, datamodule=data, verbose=False)
    assert {f"test/{task}/accuracy" for task in ensemble.tasks} <= found.keys()
    assert found["test/score"] == pytest.approx(
        sum(found[f"test/{task}/accuracy"] for task in ensemble.tasks) / len(ensemble.tasks)
    )


def test_only_a_class_that_combines_networks_can_be_named() -> None:
    config = {"combine": {"_target_": "pollinate.merging.Average"}, "allow_targets": []}
    with pytest.raises(UsageError, match=r"one model of several networks, got pollinate.merging.A"):
        build_combination(config, {}, {})
