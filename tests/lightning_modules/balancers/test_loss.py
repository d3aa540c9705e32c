"""How the tasks' losses become one gradient."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.equal import Equal
from lightning_modules.balancers.fixed import Fixed
from lightning_modules.balancers.pbi import PBI
from lightning_modules.balancers.smooth_tchebycheff import SmoothTchebycheff
from lightning_modules.balancers.uncertainty import Uncertainty
from pollinate.errors import UsageError
from tests.lightning_modules.balancers.build import build
from tests.rows.balancers import LOSS_BALANCERS
from tests.rows.row import Row, ids

TASKS = ("a", "b")
each = pytest.mark.parametrize("row", LOSS_BALANCERS, ids=ids)


def built(row: Row) -> LossBalancer:
    balancer = build(row, TASKS)
    assert isinstance(balancer, LossBalancer)
    return balancer


def losses_of(weight: Tensor) -> dict[str, Tensor]:
    """Two losses of one shared vector, with different gradients."""
    return {"a": weight.square().sum(), "b": (weight - 1).abs().sum()}


def shared() -> Tensor:
    return torch.tensor([0.5, -2.0], requires_grad=True)


@each
def test_row(row: Row) -> None:
    balancer = built(row)
    losses = {task: torch.tensor(value) for task, value in row.given.items()}
    objective, weights = row.expected
    assert balancer.objective(losses).item() == pytest.approx(objective)
    assert balancer.task_weights(losses) == pytest.approx(weights)


@each
def test_backward_is_that_of_the_weighted_sum(row: Row) -> None:
    balancer, ours, manual = built(row), shared(), shared()
    losses = losses_of(manual)
    weights = balancer.task_weights(losses)
    balancer.backward(losses_of(ours))
    sum(weights[task] * loss for task, loss in losses.items()).backward()  # type: ignore[union-attr]  # a tensor
    assert torch.allclose(ours.grad, manual.grad)


@each
def test_scaled_objective_scales_the_gradient(row: Row) -> None:
    balancer, plain, scaled = built(row), shared(), shared()
    losses = losses_of(scaled)
    balancer.backward(losses, objective=balancer.objective(losses) / 4, is_accumulation_end=False)
    balancer.backward(losses_of(plain))
    assert torch.allclose(plain.grad, 4 * scaled.grad)


@each
def test_plain_training_loop(row: Row) -> None:
    balancer, weight = built(row), shared()
    optimizer = torch.optim.SGD([weight, *balancer.parameters()], lr=0.1)
    before = sum(loss.item() for loss in losses_of(weight).values())
    for _ in range(20):
        optimizer.zero_grad()
        balancer.backward(losses_of(weight))
        optimizer.step()
    assert sum(loss.item() for loss in losses_of(weight).values()) < before


@each
def test_order_of_tasks_does_not_matter(row: Row) -> None:
    balancer = built(row)
    losses = losses_of(shared())
    turned = dict(reversed(losses.items()))
    assert balancer.objective(losses).item() == pytest.approx(balancer.objective(turned).item())
    assert balancer.task_weights(losses) == pytest.approx(balancer.task_weights(turned))


@each
def test_absent_task_gets_no_weight_and_no_gradient(row: Row) -> None:
    balancer, weight = built(row), shared()
    present = {"b": losses_of(weight)["b"]}
    balancer.backward(present)
    assert balancer.task_weights(present).keys() == {"b"}
    assert all(p.grad is None for name, p in balancer.named_parameters() if name.endswith(".a"))
    assert all(p.grad is not None for name, p in balancer.named_parameters() if name.endswith(".b"))


@each
def test_state_round_trip(row: Row) -> None:
    balancer, other = built(row), built(row)
    with torch.no_grad():
        for number, state in enumerate([*balancer.parameters(), *balancer.buffers()]):
            state.fill_(0.5 + number)
    other.load_state_dict(balancer.state_dict())
    losses = losses_of(shared())
    assert torch.equal(balancer.objective(losses), other.objective(losses))


@each
def test_device_and_dtype_follow_the_losses(row: Row) -> None:
    balancer = built(row).double()
    losses = {task: torch.tensor(value, dtype=torch.float64) for task, value in row.given.items()}
    assert balancer.objective(losses).dtype == torch.float64


def test_uncertainty_gradient_is_the_derivative() -> None:
    """d/ds (exp(-s) L + s / 2) = 1/2 - exp(-s) L; d/dL = exp(-s)."""
    balancer = Uncertainty(TASKS, initial=0.3)
    losses = {task: torch.tensor(v, requires_grad=True) for task, v in (("a", 2.0), ("b", 0.1))}
    balancer.backward(losses)
    for task, loss in losses.items():
        slope = balancer.log_variance[task].grad
        assert slope.item() == pytest.approx(0.5 - math.exp(-0.3) * loss.item())
        assert loss.grad.item() == pytest.approx(math.exp(-0.3))


def test_uncertainty_rests_where_the_variance_is_twice_the_loss() -> None:
    balancer = Uncertainty(["a"], initial=math.log(2 * 3.0))
    balancer.backward({"a": torch.tensor(3.0)})
    assert balancer.log_variance["a"].grad.item() == pytest.approx(0.0, abs=1e-6)


def test_equal_weights_are_the_start_of_uncertainty() -> None:
    losses = losses_of(shared())
    assert torch.equal(Equal(TASKS).objective(losses), Uncertainty(TASKS).objective(losses))


def author_recipe(epochs: list[list[Tensor]], warmup: int, mu: float) -> list[Tensor]:
    """The authors' steps, by plain code: d s / d L of each; ``warmup`` epochs and one."""
    slopes, nadir, seen = [], None, []
    for number, epoch in enumerate(epochs):
        for losses in epoch:
            values = losses.clone().requires_grad_()
            if number <= warmup:
                value = values.log().sum()
                seen += [losses] if number == warmup else []
            else:
                nadir = torch.stack(seen).mean(dim=0) if nadir is None else nadir
                relative = (values / nadir).log()
                value = mu * (relative / mu).exp().sum().log() * len(losses)
            slopes.append(torch.autograd.grad(value, values)[0])
    return slopes


@pytest.mark.parametrize("mu", [0.5, 1.0])
def test_smooth_tchebycheff_recipe(mu: float) -> None:
    draws = torch.Generator().manual_seed(0)
    scale = torch.tensor([1.0, 100.0, 0.01])
    epochs = [[scale * torch.rand(3, generator=draws) for _ in range(4)] for _ in range(4)]
    names = ["a", "b", "c"]
    balancer = SmoothTchebycheff(names, mu, log=True, warmup=2)
    found = []
    for number, epoch in enumerate(epochs):
        for losses in epoch:
            balancer.begin_epoch(number)
            found.append(balancer.weights(losses, names))
            balancer.observe(dict(zip(names, losses, strict=True)), is_accumulation_end=True)
    for ours, theirs in zip(found, author_recipe(epochs, 1, mu), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_smooth_tchebycheff_takes_ideal_and_nadir() -> None:
    """y = log((3 - 1) / 4), log((6 - 2) / 4): mu = 1 and p = 1 weigh by the ratios 1/2 and 1."""
    balancer = SmoothTchebycheff(
        TASKS, ideal={"a": 1.0, "b": 2.0}, nadir={"a": 4.0, "b": 4.0}, log=True
    )
    losses = {"a": torch.tensor(3.0), "b": torch.tensor(6.0)}
    assert balancer.objective(losses).item() == pytest.approx(2 * math.log(1.5))  # no warm-up
    assert balancer.task_weights(losses) == pytest.approx({"a": 1 / 3, "b": 1 / 3})


def test_smooth_tchebycheff_of_a_task_that_comes_late() -> None:
    balancer = SmoothTchebycheff(TASKS, log=True, warmup=1)
    balancer.observe({"a": torch.tensor(2.0)}, is_accumulation_end=True)
    balancer.begin_epoch(1)
    losses = {"a": torch.tensor(1.0), "b": torch.tensor(5.0)}  # relative: 1/2 and 1
    wanted = {"a": 2 / 3, "b": 2 * (2 / 3) / 5}
    assert balancer.task_weights(losses) == pytest.approx(wanted)
    balancer.observe(losses, is_accumulation_end=True)
    assert (balancer.sums / balancer.counts).tolist() == [2.0, 5.0]


def test_pbi_of_equal_losses_is_their_sum_whatever_the_rounding() -> None:
    names = ["a", "b", "c", "d", "e", "f", "g"]
    for value in (0.1, 0.7, 1 / 3, 1e-3, 1e4):
        losses = {task: torch.tensor(value) for task in names}
        assert PBI(names).task_weights(losses) == pytest.approx(dict.fromkeys(names, 1.0))


def test_fixed_zero_switches_a_task_off() -> None:
    weight = shared()
    Fixed(TASKS, {"a": 0.0, "b": 0.0}).backward(losses_of(weight))
    assert not weight.grad.any()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"c": 1.0}, "names 'c'; the tasks are a, b"),
        ({"a": -1.0}, "a must be finite and >= 0, got -1.0"),
        ({"a": math.inf}, "a must be finite and >= 0, got inf"),
        ({"a": math.nan}, "a must be finite and >= 0, got nan"),
    ],
)
def test_fixed_refuses_wrong_weights(weights: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Fixed(TASKS, weights)
