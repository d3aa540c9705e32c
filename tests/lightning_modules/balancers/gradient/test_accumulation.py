"""Gradients of several batches become one step."""

from __future__ import annotations

import pytest
import torch

from pipeline.errors import UsageError
from tests.lightning_modules.balancers.gradient.nets import (
    TASKS,
    WEIGHTS,
    Chosen,
    Tiny,
    expected,
    rows,
    same,
)


def test_accumulation_solves_once_for_the_sum() -> None:
    net, balancer = Tiny(), Chosen()
    shared, read = net.meeting("parameters")
    parts = [rows(seed=1), rows(seed=2)]
    for number, part in enumerate(parts):
        losses = net.losses(part, read)
        objective = balancer.objective(losses) / 2
        balancer.backward(losses, shared, objective=objective, last=number == 1)
    found = {name: 2 * gradient for name, gradient in net.gradients().items()}
    same(found, expected(parts, WEIGHTS))
    assert len(balancer.calls) == 1
    both, other = Tiny(), Chosen()
    shared, read = both.meeting("parameters")
    halves = [both.losses(part, read) for part in parts]
    other.backward({t: (halves[0][t] + halves[1][t]) / 2 for t in TASKS}, shared)
    assert torch.allclose(balancer.calls[0][0], other.calls[0][0], rtol=1e-5)
    assert torch.allclose(balancer.calls[0][1], other.calls[0][1], rtol=1e-5)


def test_accumulation_joins_tasks_of_all_parts() -> None:
    net, balancer = Tiny(), Chosen()
    shared, read = net.meeting("parameters")
    balancer.backward(net.losses(rows(), read, ["b"]), shared, last=False)
    balancer.backward(net.losses(rows(), read, ["a"]), shared)
    assert balancer.calls[0][2] == ["b", "a"]
    same(net.gradients(), expected([rows()], WEIGHTS, ["a", "b"]))


def test_accumulation_needs_to_know_what_is_shared() -> None:
    net = Tiny()
    with pytest.raises(UsageError, match="need shared=SharedParameters"):
        Chosen().backward(net.losses(rows()), last=False)
