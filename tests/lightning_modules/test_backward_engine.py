"""Where gradients meet, and what a second look at a step leaves behind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn

from lightning_modules.backward_engine import BackwardEngine
from lightning_modules.balancers.auto_lambda import AutoLambda
from lightning_modules.balancers.equal import Equal
from lightning_modules.balancers.excess_mtl import ExcessMTL
from lightning_modules.balancers.mgda import MGDA
from lightning_modules.balancers.moco import MoCo
from lightning_modules.replay import Replay
from lightning_modules.task_rows import disjoint_groups
from lightning_modules.trunks.shared import SharedTrunk
from lightning_modules.tuning.gradual import Gradual
from pollinate.errors import UsageError
from tests.tiny import DIM, network, ready, task, texts

KINDS = ["p" if row % 3 else "q" for row in range(40)]


def same_rows() -> Any:
    tasks = {"tone": task("notes"), "kind": task("notes", target="kind")}
    return network(ready({"notes": texts(40, kind=KINDS)}, tasks))


@pytest.mark.parametrize(
    ("balancer", "same", "other"),
    [
        (Equal(["a"]), None, None),
        (MGDA(["a"]), "features", "parameters"),
        (MGDA(["a"], level="parameters"), "parameters", "parameters"),
        (MGDA(["a"], level="features"), "features", "features"),
        (MoCo(["a"]), "parameters", "parameters"),
    ],
    ids=str,
)
def test_level(balancer: Any, same: str | None, other: str | None) -> None:
    assert BackwardEngine(same_rows(), balancer).level == same
    assert BackwardEngine(network(ready()), balancer).level == other
    assert BackwardEngine(same_rows(), balancer, same_rows=False).level == other


class Each(SharedTrunk):
    """A trunk that says that it gives each task features of its own."""

    same_for_all = False


@pytest.mark.parametrize("level", ["auto", "parameters"])
def test_features_of_each_task_meet_at_the_parameters(level: str) -> None:
    net = same_rows()
    net.trunk = Each(list(net.heads), DIM)
    assert BackwardEngine(net, MGDA(list(net.heads), level=level)).level == "parameters"


def test_balancing_features_that_differ_is_refused_before_training() -> None:
    net = same_rows()
    net.trunk = Each(list(net.heads), DIM)
    with pytest.raises(UsageError, match=r"level=features needs .* and Each gives each its own"):
        BackwardEngine(net, MGDA(list(net.heads), level="features"))


def test_sharded_parameters_are_refused_before_training() -> None:
    engine = BackwardEngine(same_rows(), MoCo(["tone", "kind"]))
    sharding = SimpleNamespace(strategy=ModelParallelStrategy(1, 1), world_size=2)
    with pytest.raises(UsageError, match=r"ModelParallelStrategy shards them; set balancer\.level"):
        engine.start(sharding)  # type: ignore[arg-type]  # all that is asked for


@pytest.mark.parametrize(("balancer", "level"), [(Equal, None), (MGDA, "features")])
def test_where_weights_are_sharded_auto_takes_features(balancer: Any, level: str | None) -> None:
    net = network(ready())  # whose tasks have rows of their own
    engine = BackwardEngine(net, balancer(list(net.heads)))
    engine.attach(ModelParallelStrategy(1, 1))
    assert (engine.level, engine.sharded) == (level, True)


def test_what_trains_in_some_steps_only_is_refused_where_weights_are_sharded() -> None:
    net = network(ready())
    net.tunings["text"] = Gradual()
    with pytest.raises(UsageError, match=r"encoder\.text\.tune changes what trains"):
        BackwardEngine(net, Equal(list(net.heads))).attach(ModelParallelStrategy(1, 1))


@pytest.mark.parametrize("balancer", [MoCo, ExcessMTL, AutoLambda])
def test_what_trains_in_some_steps_only_cant_be_followed(balancer: Any) -> None:
    net = network(ready())
    net.tunings["text"] = Gradual()
    with pytest.raises(UsageError, match=r"over the steps, and encoder\.text\.tune changes"):
        BackwardEngine(net, balancer(list(net.heads)))
    assert BackwardEngine(net, MGDA(list(net.heads))).level == "parameters"


@pytest.mark.parametrize(
    ("routes", "parts"),
    [
        ({"a": ("x",), "b": ("y",)}, [["x"], ["y"]]),
        ({"a": ("x",), "b": ("x",)}, [["x"]]),
        ({"a": ("x",), "b": ("y",), "c": ("y", "x")}, [["x", "y"]]),
        ({"a": ("x", "y"), "b": ("z",), "c": ("y",)}, [["z"], ["x", "y"]]),
    ],
)
def test_data_sets_are_parted_between_tasks(
    routes: dict[str, tuple[str, ...]], parts: list[list[str]]
) -> None:
    assert [sorted(part) for part in disjoint_groups(routes)] == parts


def test_a_replay_draws_the_same_and_leaves_no_trace() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    rows, replay = torch.randn(8, 4), Replay(net)
    replay.mark()
    first = net(rows)
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    state = torch.get_rng_state()
    with replay.replayed():
        second = net(rows)
    assert torch.allclose(first, second)
    assert not second.requires_grad
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in net.named_buffers())
