"""Trunks with a stack for each task, as their papers have them."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from lightning_modules.trunks.cross_stitch import CrossStitch
from lightning_modules.trunks.sluice import Sluice
from lightning_modules.trunks.soft_sharing import SoftSharing
from tests.lightning_modules.trunks.equations import DIM, TASKS, check, drawn, number, weighted


@pytest.mark.parametrize("depth", [1, 3])
def test_cross_stitch(depth: int) -> None:
    trunk = drawn(CrossStitch(TASKS, DIM, depth=depth))

    def expected(t: str, x: Tensor) -> Tensor:
        states = dict.fromkeys(TASKS, x)
        for layer, stitches in zip(trunk.layers, trunk.stitches, strict=True):
            outputs = [layer[u](states[u]) for u in TASKS]
            states = {u: weighted(stitches[u], outputs) for u in TASKS}
        return trunk.norms[t](states[t])  # type: ignore[no-any-return]

    check(trunk, expected)


def test_cross_stitches_start_near_the_own_stack() -> None:
    trunk = CrossStitch(TASKS, DIM, own=0.8)
    assert trunk.gauges(["b"]) == pytest.approx({"gate/b/a": 0.1, "gate/b/b": 0.8, "gate/b/c": 0.1})


@pytest.mark.parametrize("depth", [1, 3])
def test_sluice(depth: int) -> None:
    trunk = drawn(Sluice(TASKS, DIM, depth=depth))
    half = DIM // 2

    def expected(t: str, x: Tensor) -> Tensor:
        states, layers = dict.fromkeys(TASKS, x), []
        for layer, alphas in zip(trunk.layers, trunk.alphas, strict=True):
            outputs = {u: layer[u](states[u]) for u in TASKS}
            parts = [outputs[u][f * half : (f + 1) * half] for u in TASKS for f in range(2)]
            states = {
                u: torch.cat([weighted(row, parts) for row in alphas[u].view(2, 2 * len(TASKS))])
                for u in TASKS
            }
            layers.append(states[t])
        return trunk.norms[t](weighted(trunk.betas[t], layers))  # type: ignore[no-any-return]

    check(trunk, expected)


def test_penalty_of_sluice() -> None:
    trunk = drawn(Sluice(TASKS, DIM, depth=2, orthogonality=0.5))
    expected = 0.0
    for layer in trunk.layers:
        for task in TASKS:
            matrix = layer[task].layers[-1].weight
            for one in matrix[: DIM // 2]:
                for other in matrix[DIM // 2 :]:
                    expected += 0.5 * number(one @ other) ** 2
    assert trunk.penalty(["a"]).item() == pytest.approx(expected, rel=1e-5)


def test_soft_sharing() -> None:
    trunk = drawn(SoftSharing(TASKS, DIM, strength=0.6))
    check(trunk, lambda t, x: trunk.towers[t](x))
    weights = {t: list(trunk.towers[t].parameters()) for t in TASKS}
    expected = sum(
        0.3 * number((p - q).square().sum())
        for t, u in combinations(TASKS, 2)
        for p, q in zip(weights[t], weights[u], strict=True)
    )
    assert trunk.penalty(TASKS).item() == pytest.approx(expected, rel=1e-5)
    trunk.penalty(["a"]).backward()
    for p, q, r in zip(*weights.values(), strict=True):
        assert torch.allclose(p.grad, 0.6 * (2 * p - q - r), atol=1e-6)


def test_soft_sharing_starts_alike() -> None:
    penalty = SoftSharing(TASKS, DIM).penalty(TASKS)
    assert penalty is not None
    assert penalty.item() == 0
