"""What all methods that look at gradients have in common."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_modules.balancers.gradient_base import GradientBalancer, JacobianBalancer
from pollinate.errors import UsageError
from tests.lightning_modules.balancers.build import build
from tests.lightning_modules.balancers.nets import (
    TASKS,
    WEIGHTS,
    Chosen,
    Tiny,
    expected,
    levels,
    rows,
    same,
)
from tests.rows.balancers import GRAMIAN_BALANCERS, JACOBIAN_BALANCERS
from tests.rows.row import Row, ids

METHODS = (*GRAMIAN_BALANCERS, *JACOBIAN_BALANCERS)
each = pytest.mark.parametrize("row", METHODS, ids=ids)


@levels
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
@each
def test_what_is_not_finite_reaches_the_gradient(row: Row, level: str, wrong: float) -> None:
    balancer = build(row, TASKS)
    if isinstance(balancer, GradientBalancer) and level not in balancer.levels:
        level = "parameters"
    net = Tiny()
    shared, read = net.engine(level)
    losses = net.losses(rows(), read)
    before = {name: state.clone() for name, state in balancer.state_dict().items()}
    balancer.backward({**losses, "b": losses["b"] * wrong}, shared)
    assert any(not torch.isfinite(gradient).all() for gradient in net.gradients().values())
    for name, state in balancer.state_dict().items():
        assert torch.equal(before[name].nan_to_num(), state.nan_to_num()), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@levels
@each
def test_follows_the_dtype(row: Row, level: str, dtype: torch.dtype) -> None:
    balancer, net = build(row, TASKS), Tiny().to(dtype)
    if isinstance(balancer, GradientBalancer) and level not in balancer.levels:
        level = "parameters"
    for _ in range(2):
        shared, read = net.engine(level)
        net.zero_grad()
        balancer.backward(net.losses(rows().to(dtype), read), shared)
    assert all(p.grad.dtype == dtype and torch.isfinite(p.grad).all() for p in net.parameters())


@levels
@each
def test_plain_training_loop(row: Row, level: str) -> None:
    balancer, net = build(row, TASKS), Tiny()
    assert isinstance(balancer, GradientBalancer)
    if level not in balancer.levels:
        level = "parameters"
    shared, read = net.engine(level)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    before = sum(loss.item() for loss in net.losses(rows()).values())
    for _ in range(60):
        shared, read = (shared, read) if level == "parameters" else net.engine(level)
        optimizer.zero_grad()
        balancer.backward(net.losses(rows(), read), shared)
        optimizer.step()
    after = sum(loss.item() for loss in net.losses(rows()).values())
    assert after < 0.8 * before


@each
def test_state_goes_on_where_it_was(row: Row) -> None:
    whole, first, second = (build(row, TASKS) for _ in range(3))
    nets = {balancer: Tiny() for balancer in (whole, first, second)}

    def step(balancer: object, seed: int) -> dict[str, Tensor]:
        net = nets[balancer]  # type: ignore[index]  # one of the three
        net.zero_grad()
        shared, read = net.engine("parameters")
        balancer.backward(net.losses(rows(seed=seed), read), shared)  # type: ignore[attr-defined]  # one of the three
        return net.gradients()

    for seed in range(3):
        step(whole, seed)
        step(first, seed)
    second.load_state_dict(first.state_dict())
    for seed in range(3, 6):
        found, wanted = step(second, seed), step(whole, seed)
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@each
def test_half_precision_keeps_the_state(row: Row) -> None:
    balancer = build(row, TASKS)
    before = {name: buffer.dtype for name, buffer in balancer.named_buffers()}
    balancer.to(torch.bfloat16)
    assert {name: buffer.dtype for name, buffer in balancer.named_buffers()} == before


@each
def test_weights_and_gramian_are_seen(row: Row) -> None:
    balancer, net = build(row, TASKS), Tiny()
    assert isinstance(balancer, GradientBalancer)
    balancer.watched = True
    shared, read = net.engine("parameters")
    losses = net.losses(rows(), read)
    assert balancer.task_weights(losses) == {}
    balancer.backward(losses, shared)
    assert balancer.seen is not None
    assert balancer.seen.gramian is not None
    assert balancer.seen.gramian.shape == (3, 3)
    weightless = row.option in ("graddrop", "trimmed_mean")
    assert balancer.task_weights(losses).keys() == (set() if weightless else set(TASKS))


def test_jacobian_balancers_are_tested_too() -> None:
    assert any(isinstance(build(row, TASKS), JacobianBalancer) for row in METHODS)


def test_accumulation_solves_once_for_the_sum() -> None:
    net, balancer = Tiny(), Chosen()
    shared, read = net.engine("parameters")
    parts = [rows(seed=1), rows(seed=2)]
    for number, part in enumerate(parts):
        losses = net.losses(part, read)
        objective = balancer.objective(losses) / 2
        balancer.backward(losses, shared, objective=objective, is_accumulation_end=number == 1)
    found = {name: 2 * gradient for name, gradient in net.gradients().items()}
    same(found, expected(parts, WEIGHTS))
    assert len(balancer.calls) == 1
    both, other = Tiny(), Chosen()
    shared, read = both.engine("parameters")
    halves = [both.losses(part, read) for part in parts]
    other.backward({t: (halves[0][t] + halves[1][t]) / 2 for t in TASKS}, shared)
    assert torch.allclose(balancer.calls[0][0], other.calls[0][0], rtol=1e-5)
    assert torch.allclose(balancer.calls[0][1], other.calls[0][1], rtol=1e-5)


def test_accumulation_joins_tasks_of_all_parts() -> None:
    net, balancer = Tiny(), Chosen()
    shared, read = net.engine("parameters")
    balancer.backward(net.losses(rows(), read, ["b"]), shared, is_accumulation_end=False)
    balancer.backward(net.losses(rows(), read, ["a"]), shared)
    assert balancer.calls[0][2] == ["b", "a"]
    same(net.gradients(), expected([rows()], WEIGHTS, ["a", "b"]))


def test_accumulation_needs_to_know_what_is_shared() -> None:
    net = Tiny()
    with pytest.raises(UsageError, match="need shared=ParameterGradients"):
        Chosen().backward(net.losses(rows()), is_accumulation_end=False)
