"""DSelect-k, as its paper has it."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.features import Features
from lightning_modules.trunks import dselect_k
from lightning_modules.trunks.dselect_k import DSelectK, entropy, smooth_step
from tests.lightning_modules.trunks.equations import DIM, TASKS, check, drawn, number, weighted


def step(t: float, gamma: float) -> float:
    if t <= -gamma / 2:
        return 0.0
    if t >= gamma / 2:
        return 1.0
    return -2 / gamma**3 * t**3 + 3 / (2 * gamma) * t + 1 / 2


def single(z: list[float], expert: int, gamma: float) -> float:
    """The weight that a single-expert selector gives to an expert, by the bits of its number."""
    weight = 1.0
    for place, value in enumerate(z):
        s = step(value, gamma)
        weight *= s if expert >> place & 1 else 1 - s
    return weight


def selectors(trunk: Any, task: str, x: Tensor) -> tuple[list[list[float]], list[float]]:
    """Each selector's weights of all codes, and the selectors' weights."""
    one = trunk.selectors[task]
    normed = one.norm(x)
    z = [number(w @ normed) for w in one.codes.weight]
    bits = len(z) // one.k
    scores = [math.exp(number(w @ normed)) for w in one.choice.weight]
    singles = [
        [single(z[i * bits : (i + 1) * bits], e, one.gamma) for e in range(2**bits)]
        for i in range(one.k)
    ]
    return singles, [score / sum(scores) for score in scores]


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_dselect_k(count: int) -> None:
    trunk = drawn(DSelectK(TASKS, DIM, experts=count, k=2, gamma=2.0))

    def expected(t: str, x: Tensor) -> Tensor:
        singles, alpha = selectors(trunk, t, x)
        weights = [sum(a * r[e] for a, r in zip(alpha, singles, strict=True)) for e in range(count)]
        return weighted(weights, [f(x) for f in trunk.experts.values()])

    check(trunk, expected)


@pytest.mark.parametrize("count", [3, 4])
def test_penalty_of_dselect_k(count: int) -> None:
    trunk = drawn(DSelectK(TASKS, DIM, experts=count, k=2, gamma=2.0, entropy=0.7, unused=0.3))
    rows = torch.randn(5, DIM)
    expected = 0.0
    for task in ("a", "b"):
        for x in rows:
            for r in selectors(trunk, task, x)[0]:
                expected -= 0.7 / 5 * sum(w * math.log(w) for w in r if w > 0)
                if count == 3:
                    expected += 0.3 / 5 / sum(r[:3])
    trunk({"x": Features(rows)}, {"a": ("x",), "b": ("x",)})
    assert trunk.penalty(["a", "b"]).item() == pytest.approx(expected, rel=1e-4)


def test_penalty_of_dselect_k_is_the_mean_over_all_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trunk = drawn(DSelectK(TASKS, DIM, experts=3, gamma=2.0, entropy=0.7, unused=0.3))
    rows, found = torch.randn(5, DIM), []
    for parts in ([rows], [rows[:4], rows[4:], rows[:0]]):  # one process, then three
        sums = torch.tensor([[float(len(rows)), float(len(parts))]])
        monkeypatch.setattr(dselect_k, "all_reduce_sum", partial(torch.add, sums, alpha=0))
        trunk.zero_grad()
        for part in parts:
            trunk({"x": Features(part)}, {"a": ("x",)})
            (trunk.penalty(["a"]) / len(parts)).backward()
        found.append(trunk.selectors["a"].codes.weight.grad.clone())
    assert torch.allclose(*found, atol=1e-6)


def test_penalty_of_dselect_k_leads_to_single_experts() -> None:
    torch.manual_seed(0)
    trunk = DSelectK(["a"], DIM, experts=4, k=2, entropy=1.0)
    optimizer = torch.optim.Adam(trunk.parameters(), lr=0.05)
    rows = {"x": Features(torch.randn(20, DIM))}
    for _ in range(200):
        optimizer.zero_grad()
        trunk(rows, {"a": ("x",)})
        rest = trunk.penalty(["a"])
        assert rest is not None
        rest.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in trunk.parameters())
        optimizer.step()
    singles, _ = trunk.selectors["a"](rows["x"].pooled)
    assert entropy(singles).mean() < 0.05  # from 2 ln 2: only rows near a border are left
    assert (singles == 1).any(dim=-1).float().mean() > 0.8  # and the others choose one alone


def test_smooth_step() -> None:
    values = torch.linspace(-2, 2, 41, dtype=torch.float64, requires_grad=True)
    for gamma in (0.5, 1.0, 3.0):
        found = smooth_step(values, gamma)
        assert found.tolist() == pytest.approx([step(number(v), gamma) for v in values])
        assert (torch.autograd.grad(found.sum(), values)[0] >= 0).all()


def test_entropy_has_a_gradient_where_a_weight_is_0() -> None:
    weights = torch.tensor([0.0, 0.25, 0.75], requires_grad=True)
    value = entropy(weights)
    value.backward()
    assert value.item() == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))
    assert weights.grad is not None
    assert weights.grad.isfinite().all()
