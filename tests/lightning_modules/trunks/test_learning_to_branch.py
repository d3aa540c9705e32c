"""Learning to branch, as its paper has it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from datamodules.features import Features
from lightning_modules.trunks.learning_to_branch import LearningToBranch
from tests.lightning_modules.trunks.equations import DIM, TASKS, check, drawn


def test_learning_to_branch_is_a_tree_in_evaluation() -> None:
    trunk = drawn(LearningToBranch(TASKS, DIM, depth=3, branches=3))

    def expected(t: str, x: Tensor) -> Tensor:
        place = int(trunk.leaves[t].argmax())
        path = [place]
        for parents in list(trunk.parents)[::-1]:
            place = int(parents[f"branch_{place}"].argmax())
            path.insert(0, place)
        for layer, place in zip(trunk.layers, path, strict=True):
            x = layer[f"branch_{place}"](x)
        return trunk.norms[t](x)  # type: ignore[no-any-return]

    check(trunk, expected)


def test_branches_are_drawn_by_their_weights() -> None:
    trunk = LearningToBranch(["a"], DIM, depth=1, branches=3, dropout=0.0, start=1e-3, end=1e-3)
    weights = torch.tensor([0.2, 0.5, 0.3])
    with torch.no_grad():
        trunk.leaves["a"].copy_(weights.log())
    counts = torch.zeros(3)
    for at in range(2000):
        trunk.begin_step(at)
        counts += trunk._decision(trunk.leaves["a"], trunk._noise(0)[0]).detach()
    assert torch.allclose(counts / 2000, weights, atol=0.04)
    assert trunk.gauges(["a"])["gate/a/branch_1"] == pytest.approx(0.5)


def test_temperature_and_draws_are_functions_of_the_step() -> None:
    rows = {"x": Features(torch.randn(4, DIM))}
    outputs = []
    for steps in ([0, 1, 2, 50], [50]):
        torch.manual_seed(0)
        trunk = LearningToBranch(TASKS, DIM, dropout=0.0, start=8.0, end=2.0, steps=100, seed=3)
        for at in steps:
            trunk.begin_step(at)
            found = trunk(rows, {"a": ("x",)})["a"][0]
        assert trunk.temperature == pytest.approx(4.0)
        outputs.append(found)
    assert torch.equal(*outputs)
    trunk.begin_step(1000)
    assert trunk.temperature == pytest.approx(2.0)
    assert not torch.allclose(trunk(rows, {"a": ("x",)})["a"][0], outputs[0])
