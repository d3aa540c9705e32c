"""What an ensemble has in common with a network, and what it doesn't."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.building import build_combination
from lightning_modules.evaluation_module import EvaluationModule
from lightning_modules.merging.ensemble import Ensemble, OutputEnsemble
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


def test_weights_are_multiplicities_and_a_member_without_one_is_not_run() -> None:
    data = ready()
    ensemble, (one, two_) = two(data)
    batches = next(iter(data.train_dataloader())).batches
    tasks, routes = ensemble.tasks, ensemble.routes
    weights = {"notes": {0: 2.0, 1: 1.0}, "shapes": {1: 5.0}}
    weighted = Ensemble([one, two_], tasks, routes, weights)
    thrice = Ensemble([one, one, two_], tasks, routes)
    found = weighted(batches)
    torch.testing.assert_close(found["notes"], thrice(batches)["notes"])
    own = two_(batches)["shapes"].log_softmax(dim=1)
    torch.testing.assert_close(found["shapes"], own)
    encoded = weighted.encode(batches, routes)
    assert encoded.keys() == {"0/notes", "1/notes", "1/shapes"}


UNFIT: dict[str, tuple[Any, str]] = {
    "no mapping": (3, r"weights must be {task: {model: weight}}, got 3"),
    "a list": ({"mood": [1, 2]}, r"weights.mood must be {model: weight}, got \[1, 2\]"),
    "negative": ({"mood": {"a": -1}}, "weights.mood.a must be >= 0, got -1"),
    "infinite": ({"mood": {"a": float("inf")}}, "weights.mood.a must be >= 0, got Infinity"),
    "nan": ({"mood": {"a": float("nan")}}, "weights.mood.a must be >= 0, got NaN"),
    "a flag": ({"mood": {"a": True}}, "weights.mood.a must be >= 0, got true"),
    "zeros": ({"mood": {"a": 0}}, r'must not all be 0, got {"a": 0}; leave the task out'),
    "task": ({"mod": {"a": 1}}, "the task 'mod', which no model has; did you mean mood"),
    "model": ({"mood": {"aa": 1}}, "model 'aa', which isn't among those given; did you mean a"),
    "not its": ({"stars": {"b": 1}}, "stars.b must be 0, as b doesn't predict stars, .* do: a"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_weights_that_cannot_be_are_refused(case: str) -> None:
    weights, message = UNFIT[case]
    with pytest.raises(UsageError, match=message):
        OutputEnsemble(weights).used_models({"a": ["mood", "stars"], "b": ["mood"]})


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
