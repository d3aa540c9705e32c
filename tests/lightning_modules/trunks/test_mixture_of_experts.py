"""Trunks of experts and gates, as their papers have them."""

from __future__ import annotations

import pytest
from torch import Tensor

from lightning_modules.trunks.cgc import CGC
from lightning_modules.trunks.mmoe import MMoE
from lightning_modules.trunks.ple import PLE
from tests.lightning_modules.trunks.equations import DIM, TASKS, check, drawn, gate, weighted


def test_mmoe() -> None:
    trunk = drawn(MMoE(TASKS, DIM, experts=3))
    check(
        trunk,
        lambda t, x: weighted(gate(trunk.gates[t], x), [f(x) for f in trunk.experts.values()]),
    )


def test_cgc() -> None:
    trunk = drawn(CGC(TASKS, DIM, shared=2, own=2))

    def expected(t: str, x: Tensor) -> Tensor:
        selected = [f(x) for f in (*trunk.own_experts[t].values(), *trunk.shared_experts.values())]
        return weighted(gate(trunk.gates[t], x), selected)

    check(trunk, expected)


@pytest.mark.parametrize("levels", [2, 3, 4])
def test_ple(levels: int) -> None:
    trunk = drawn(PLE(TASKS, DIM, levels=levels, shared=2, own=2))

    def expected(t: str, x: Tensor) -> Tensor:
        states = dict.fromkeys((*TASKS, "shared"), x)
        for level in range(levels):
            own = {u: [f(states[u]) for f in trunk.own_experts[level][u].values()] for u in TASKS}
            shared = [f(states["shared"]) for f in trunk.shared_experts[level].values()]
            after = {
                u: weighted(gate(trunk.gates[level][u], states[u]), [*own[u], *shared])
                for u in TASKS
            }
            if level < levels - 1:
                every = [f for u in TASKS for f in own[u]] + shared
                weights = gate(trunk.shared_gates[level], states["shared"])
                after["shared"] = weighted(weights, every)
            states = after
        return states[t]

    check(trunk, expected)
