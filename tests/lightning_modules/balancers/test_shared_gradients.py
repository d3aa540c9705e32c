"""What tasks share is found in a loop that doesn't name it."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from lightning_modules.balancers.fixed import Fixed
from lightning_modules.balancers.mgda import MGDA
from lightning_modules.balancers.moco import MoCo
from lightning_modules.balancers.shared_gradients import (
    FeatureGradients,
    ParameterGradients,
    SharedParameterFinder,
)
from lightning_modules.balancers.uncertainty import Uncertainty
from lightning_modules.balancers.upgrad import UPGrad
from pollinate.errors import UsageError
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


class Two(nn.Module):
    """Two shared layers of one size, which the heads come to in different order."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.heads = nn.ModuleDict({"a": nn.Linear(4, 1), "b": nn.Linear(4, 1)})

    def losses(self, tasks: str) -> dict[str, Tensor]:
        rows = torch.ones(3, 4)
        left, right = self.left(rows), self.right(rows)
        mixed = {"a": left * right, "b": right * left}
        return {task: (self.heads[task](mixed[task]) - 1).square().mean() for task in tasks}


def trained(steps: list[str], named: bool) -> Two:
    net, balancer = Two(), MoCo(["a", "b"])
    shared = ParameterGradients([net.left.weight, net.right.weight]) if named else None
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for tasks in steps:
        optimizer.zero_grad()
        balancer.backward(net.losses(tasks), shared)
        optimizer.step()
    return net


@pytest.mark.parametrize("steps", [["ab", "ab"], ["ab", "ba", "ab"], ["ab", "a", "b", "ab"]])
def test_a_memory_is_of_the_same_parameters_at_each_step(steps: list[str]) -> None:
    found, named = trained(steps, named=False), trained(steps, named=True)
    for key, value in found.state_dict().items():
        assert torch.allclose(value, named.state_dict()[key], atol=1e-6), key


def test_a_first_step_of_one_task_cant_tell_what_is_shared() -> None:
    with pytest.raises(UsageError, match=r"name what is shared: shared=ParameterGradients"):
        trained(["a", "ab"], named=False)


def test_inputs_that_want_gradients_go_with_their_step() -> None:
    found, weight = SharedParameterFinder(), torch.ones(2, requires_grad=True)
    for _ in range(3):
        inputs = torch.ones(2, requires_grad=True)
        shared = found.of([(weight * inputs).sum(), (weight - inputs).square().sum()])
        assert {id(leaf) for leaf in shared} == {id(weight), id(inputs)}
        del inputs, shared


def test_a_copy_knows_nothing_of_another_network() -> None:
    found = SharedParameterFinder()
    weight, other = (torch.ones(2, requires_grad=True) for _ in range(2))
    found.of([weight.sum(), weight.square().sum()])
    assert deepcopy(found).of([other.sum(), other.square().sum()]) == [other]


@levels
def test_shared_part_gets_the_weighted_sum_and_heads_their_own(level: str) -> None:
    net = Tiny()
    shared, read = net.engine(level)
    Chosen().backward(net.losses(rows(), read), shared)
    same(net.gradients(), expected([rows()], WEIGHTS))


def test_what_is_shared_is_found() -> None:
    net = Tiny()
    Chosen().backward(net.losses(rows()))
    same(net.gradients(), expected([rows()], WEIGHTS))


def test_gramian_of_the_parameters() -> None:
    net, balancer = Tiny(), Chosen()
    shared, read = net.engine("parameters")
    losses = net.losses(rows(), read)
    parameters = list(net.shared.parameters())
    grads = [torch.autograd.grad(x, parameters, retain_graph=True) for x in losses.values()]
    jacobian = torch.stack([torch.cat([g.flatten() for g in grad]) for grad in grads]).double()
    balancer.backward(losses, shared)
    gramian, values, tasks = balancer.calls[0]
    assert torch.allclose(gramian, jacobian @ jacobian.T, rtol=1e-5)
    assert torch.allclose(values, torch.stack([*losses.values()]).double())
    assert tasks == list(TASKS)


def test_gramian_of_the_features() -> None:
    net, balancer = Tiny(), Chosen()
    features = net.shared(rows())
    cut = FeatureGradients()
    targets = torch.zeros(5, 1)
    tapped = {t: mse_loss(net.heads[t](cut(t, features)), targets) for t in TASKS}
    plain = [mse_loss(net.heads[t](features), targets) for t in TASKS]
    grads = [torch.autograd.grad(x, features, retain_graph=True)[0].flatten() for x in plain]
    jacobian = torch.stack(grads).double()
    balancer.backward(tapped, cut)
    assert torch.allclose(balancer.calls[0][0], jacobian @ jacobian.T, rtol=1e-5)


def test_features_of_other_rows_are_orthogonal() -> None:
    net, balancer, cut = Tiny(), Chosen(), FeatureGradients()
    losses = {t: net.heads[t](cut(t, net.shared(rows(seed=i)))).sum() for i, t in enumerate(TASKS)}
    balancer.backward(losses, cut)
    gramian = balancer.calls[0][0]
    assert torch.equal(gramian, gramian.diagonal().diag())


@levels
@pytest.mark.parametrize("scale", [1 / 4, 2.0**16])
def test_a_scaled_objective_scales_gradients_and_not_the_solver(level: str, scale: float) -> None:
    net, balancer = Tiny(), UPGrad(TASKS)
    shared, read = net.engine(level)
    losses = net.losses(rows(), read)
    balancer.backward(losses, shared, objective=balancer.objective(losses) * scale)
    plain, other = Tiny(), UPGrad(TASKS)
    shared, read = plain.engine(level)
    other.backward(plain.losses(rows(), read), shared)
    scaled = {name: gradient / scale for name, gradient in net.gradients().items()}
    same(scaled, plain.gradients(), atol=1e-5)
    assert balancer.seen is not None
    assert other.seen is not None
    assert balancer.seen.gramian is not None
    assert other.seen.gramian is not None
    assert torch.allclose(balancer.seen.gramian, other.seen.gramian, rtol=1e-5)


@levels
def test_absent_tasks_are_no_rows_and_get_no_gradient(level: str) -> None:
    net, balancer = Tiny(), Chosen()
    shared, read = net.engine(level)
    balancer.backward(net.losses(rows(), read, ["a", "b"]), shared)
    assert balancer.calls[0][2] == ["a", "b"]
    assert all(p.grad is None for p in net.heads["c"].parameters())
    same(net.gradients(), expected([rows()], WEIGHTS, ["a", "b"]))


@levels
def test_a_loss_without_gradient_is_left_out(level: str) -> None:
    net, balancer = Tiny(), Chosen()
    shared, read = net.engine(level)
    losses = net.losses(rows(), read, ["a", "b"]) | {"c": torch.tensor(3.0)}
    balancer.backward(losses, shared)
    assert balancer.calls[0][2] == ["a", "b"]
    same(net.gradients(), expected([rows()], WEIGHTS, ["a", "b"]))


@levels
def test_rest_is_added_after_balancing(level: str) -> None:
    net, balancer = Tiny(), Chosen()
    shared, read = net.engine(level)
    losses = net.losses(rows(), read)
    regularization = 3 * sum(p.square().sum() for p in net.shared.parameters())
    objective = (balancer.objective(losses) + regularization) / 2
    balancer.backward(losses, shared, objective=objective, regularization=regularization)
    wanted = expected([rows()], WEIGHTS)
    for name, parameter in net.named_parameters():
        extra = 6 * parameter.detach() if name.startswith("shared") else 0
        wanted[name] = (wanted[name] + extra) / 2
    same(net.gradients(), wanted)


@levels
def test_a_loss_method_comes_first(level: str) -> None:
    net, first = Tiny(), Uncertainty(TASKS, initial=0.7)
    balancer = Chosen(losses=first)
    shared, read = net.engine(level)
    balancer.backward(net.losses(rows(), read), shared)
    plain, other = Tiny(), Uncertainty(TASKS, initial=0.7)
    other.backward(plain.losses(rows()))
    for task in TASKS:
        slope = first.log_variance[task].grad
        assert torch.allclose(slope, other.log_variance[task].grad)
    heads = {n: g for n, g in plain.gradients().items() if n.startswith("heads")}
    same({n: g for n, g in net.gradients().items() if n.startswith("heads")}, heads)
    factor = torch.exp(torch.tensor(-0.7)).item()
    wanted = expected([rows()], {t: w * factor for t, w in WEIGHTS.items()})
    shared_part = {n: g for n, g in wanted.items() if n.startswith("shared")}
    same({n: g for n, g in net.gradients().items() if n.startswith("shared")}, shared_part)
    # the solver sees the gradients of the weighted losses
    alone = Chosen()
    one = Tiny()
    shared, read = one.engine(level)
    alone.backward(one.losses(rows(), read), shared)
    assert torch.allclose(balancer.calls[0][0], alone.calls[0][0] * factor**2, rtol=1e-4)


def test_a_loss_method_can_switch_everything_off() -> None:
    net = Tiny()
    balancer = Chosen(losses=Fixed(TASKS, dict.fromkeys(TASKS, 0.0)))
    balancer.backward(net.losses(rows()))
    assert all(not gradient.any() for gradient in net.gradients().values())


def test_frozen_shared_part_is_refused() -> None:
    with pytest.raises(UsageError, match="one dtype that are trained, got 0 of none"):
        ParameterGradients(nn.Linear(2, 2).requires_grad_(False).parameters())


def test_grad_scaler_sees_an_overflow() -> None:
    net, balancer = Tiny(), MGDA(TASKS)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    shared, read = net.engine("parameters")
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for wrong in (float("inf"), 1.0):
        optimizer.zero_grad()
        losses = net.losses(rows(), read)
        losses["a"] = losses["a"] * wrong
        balancer.backward(losses, shared, objective=scaler.scale(balancer.objective(losses)))
        scaler.step(optimizer)
        scaler.update()
        moved = any(not torch.equal(before[n], p) for n, p in net.named_parameters())
        assert moved == (wrong == 1.0)
    assert scaler.get_scale() == 2.0**7
