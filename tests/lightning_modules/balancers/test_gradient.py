"""How gradients are measured, combined and sent on, whatever the method."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from lightning_modules.balancers.gradient.base import GradientBalancer
from lightning_modules.balancers.gradient.cut import Cut
from lightning_modules.balancers.gradient.parameters import SharedParameters, accumulate
from lightning_modules.balancers.gradient.shared import Shared
from lightning_modules.balancers.gramian.base import GramianBalancer
from lightning_modules.balancers.gramian.mgda import MGDA
from lightning_modules.balancers.gramian.upgrad import UPGrad
from lightning_modules.balancers.jacobian.base import JacobianBalancer
from lightning_modules.balancers.loss.base import LossBalancer
from lightning_modules.balancers.loss.fixed import Fixed
from lightning_modules.balancers.loss.uncertainty import Uncertainty
from pipeline.errors import UsageError
from tests.lightning_modules.balancers.build import build
from tests.rows.balancers import GRAMIAN_BALANCERS, JACOBIAN_BALANCERS
from tests.rows.row import Row, ids

TASKS = ("a", "b", "c")
WEIGHTS = {"a": 0.5, "b": 2.0, "c": 0.0}
METHODS = (*GRAMIAN_BALANCERS, *JACOBIAN_BALANCERS)
each = pytest.mark.parametrize("row", METHODS, ids=ids)
levels = pytest.mark.parametrize("level", ["features", "parameters"])
Read = Callable[[str, Tensor], Tensor]


class Chosen(GramianBalancer):
    """Weights given by the test."""

    def __init__(
        self,
        tasks: Sequence[str] = TASKS,
        losses: LossBalancer | None = None,
        weight: dict[str, float] | None = None,
    ) -> None:
        super().__init__(tasks, losses=losses)
        self.weight = weight or WEIGHTS
        self.calls: list[tuple[Tensor, Tensor, list[str]]] = []

    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        self.calls.append((gramian, losses, list(tasks)))
        return torch.tensor([self.weight[task] for task in tasks], dtype=torch.float64)


class Tiny(nn.Module):
    """A shared layer and three heads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.shared = nn.Sequential(nn.Linear(4, 6), nn.Tanh())
        self.heads = nn.ModuleDict({task: nn.Linear(6, 1) for task in TASKS})

    def losses(
        self, rows: Tensor, read: Read = lambda _, z: z, tasks: Sequence[str] = TASKS
    ) -> dict[str, Tensor]:
        features = self.shared(rows)
        targets = torch.arange(len(rows)).to(rows)[:, None]
        return {
            task: mse_loss(self.heads[task](read(task, features)), number * targets)
            for number, task in enumerate(TASKS, 1)
            if task in tasks
        }

    def meeting(self, level: str) -> tuple[Shared, Read]:
        """What is shared, and what heads read."""
        if level == "features":
            cut = Cut()
            return cut, cut
        return SharedParameters(self.shared.parameters()), lambda _, z: z

    def gradients(self) -> dict[str, Tensor]:
        return {n: p.grad.clone() for n, p in self.named_parameters() if p.grad is not None}


def rows(count: int = 5, seed: int = 1) -> Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


def expected(
    data: Sequence[Tensor], weights: dict[str, float], tasks: Sequence[str] = TASKS
) -> dict[str, Tensor]:
    """Gradients of sum_t w_t L_t in the shared part, and of L_t in the heads."""
    net = Tiny()
    for one in data:
        for task, loss in net.losses(one, tasks=tasks).items():
            shared = list(net.shared.parameters())
            own = list(net.heads[task].parameters())
            found = torch.autograd.grad(loss, [*shared, *own], retain_graph=True)
            factors = [weights[task]] * len(shared) + [1.0] * len(own)
            accumulate([*shared, *own], [f * g for f, g in zip(factors, found, strict=True)])
    return net.gradients()


def same(found: dict[str, Tensor], other: dict[str, Tensor], atol: float = 1e-6) -> None:
    assert found.keys() == other.keys()
    for name, gradient in found.items():
        assert torch.allclose(gradient, other[name], rtol=1e-5, atol=atol), name


@levels
def test_shared_part_gets_the_weighted_sum_and_heads_their_own(level: str) -> None:
    net = Tiny()
    shared, read = net.meeting(level)
    Chosen().backward(net.losses(rows(), read), shared)
    same(net.gradients(), expected([rows()], WEIGHTS))


def test_what_is_shared_is_found() -> None:
    net = Tiny()
    Chosen().backward(net.losses(rows()))
    same(net.gradients(), expected([rows()], WEIGHTS))


def test_gramian_of_the_parameters() -> None:
    net, balancer = Tiny(), Chosen()
    shared, read = net.meeting("parameters")
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
    cut = Cut()
    targets = torch.zeros(5, 1)
    tapped = {t: mse_loss(net.heads[t](cut(t, features)), targets) for t in TASKS}
    plain = [mse_loss(net.heads[t](features), targets) for t in TASKS]
    grads = [torch.autograd.grad(x, features, retain_graph=True)[0].flatten() for x in plain]
    jacobian = torch.stack(grads).double()
    balancer.backward(tapped, cut)
    assert torch.allclose(balancer.calls[0][0], jacobian @ jacobian.T, rtol=1e-5)


def test_features_of_other_rows_are_orthogonal() -> None:
    net, balancer, cut = Tiny(), Chosen(), Cut()
    losses = {t: net.heads[t](cut(t, net.shared(rows(seed=i)))).sum() for i, t in enumerate(TASKS)}
    balancer.backward(losses, cut)
    gramian = balancer.calls[0][0]
    assert torch.equal(gramian, gramian.diagonal().diag())


@levels
@pytest.mark.parametrize("scale", [1 / 4, 2.0**16])
def test_a_scaled_objective_scales_gradients_and_not_the_solver(level: str, scale: float) -> None:
    net, balancer = Tiny(), UPGrad(TASKS)
    shared, read = net.meeting(level)
    losses = net.losses(rows(), read)
    balancer.backward(losses, shared, objective=balancer.objective(losses) * scale)
    plain, other = Tiny(), UPGrad(TASKS)
    shared, read = plain.meeting(level)
    other.backward(plain.losses(rows(), read), shared)
    scaled = {name: gradient / scale for name, gradient in net.gradients().items()}
    same(scaled, plain.gradients(), atol=1e-5)
    assert balancer.seen is not None
    assert other.seen is not None
    assert balancer.seen.gramian is not None
    assert other.seen.gramian is not None
    assert torch.allclose(balancer.seen.gramian, other.seen.gramian, rtol=1e-5)


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


@levels
def test_absent_tasks_are_no_rows_and_get_no_gradient(level: str) -> None:
    net, balancer = Tiny(), Chosen()
    shared, read = net.meeting(level)
    balancer.backward(net.losses(rows(), read, ["a", "b"]), shared)
    assert balancer.calls[0][2] == ["a", "b"]
    assert all(p.grad is None for p in net.heads["c"].parameters())
    same(net.gradients(), expected([rows()], WEIGHTS, ["a", "b"]))


@levels
def test_a_loss_without_gradient_is_left_out(level: str) -> None:
    net, balancer = Tiny(), Chosen()
    shared, read = net.meeting(level)
    losses = net.losses(rows(), read, ["a", "b"]) | {"c": torch.tensor(3.0)}
    balancer.backward(losses, shared)
    assert balancer.calls[0][2] == ["a", "b"]
    same(net.gradients(), expected([rows()], WEIGHTS, ["a", "b"]))


@levels
def test_rest_is_added_after_balancing(level: str) -> None:
    net, balancer = Tiny(), Chosen()
    shared, read = net.meeting(level)
    losses = net.losses(rows(), read)
    rest = 3 * sum(p.square().sum() for p in net.shared.parameters())
    objective = (balancer.objective(losses) + rest) / 2
    balancer.backward(losses, shared, objective=objective, rest=rest)
    wanted = expected([rows()], WEIGHTS)
    for name, parameter in net.named_parameters():
        extra = 6 * parameter.detach() if name.startswith("shared") else 0
        wanted[name] = (wanted[name] + extra) / 2
    same(net.gradients(), wanted)


@levels
def test_a_loss_method_comes_first(level: str) -> None:
    net, first = Tiny(), Uncertainty(TASKS, initial=0.7)
    balancer = Chosen(losses=first)
    shared, read = net.meeting(level)
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
    shared, read = one.meeting(level)
    alone.backward(one.losses(rows(), read), shared)
    assert torch.allclose(balancer.calls[0][0], alone.calls[0][0] * factor**2, rtol=1e-4)


def test_a_loss_method_can_switch_everything_off() -> None:
    net = Tiny()
    balancer = Chosen(losses=Fixed(TASKS, dict.fromkeys(TASKS, 0.0)))
    balancer.backward(net.losses(rows()))
    assert all(not gradient.any() for gradient in net.gradients().values())


@levels
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
@each
def test_what_is_not_finite_reaches_the_gradient(row: Row, level: str, wrong: float) -> None:
    balancer = build(row, TASKS)
    if isinstance(balancer, GradientBalancer) and level not in balancer.levels:
        level = "parameters"
    net = Tiny()
    shared, read = net.meeting(level)
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
        shared, read = net.meeting(level)
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
    shared, read = net.meeting(level)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    before = sum(loss.item() for loss in net.losses(rows()).values())
    for _ in range(60):
        shared, read = (shared, read) if level == "parameters" else net.meeting(level)
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
        shared, read = net.meeting("parameters")
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
    shared, read = net.meeting("parameters")
    losses = net.losses(rows(), read)
    assert balancer.task_weights(losses) == {}
    balancer.backward(losses, shared)
    assert balancer.seen is not None
    assert balancer.seen.gramian is not None
    assert balancer.seen.gramian.shape == (3, 3)
    weightless = row.option in ("graddrop", "trimmed_mean")
    assert balancer.task_weights(losses).keys() == (set() if weightless else set(TASKS))


def test_frozen_shared_part_is_refused() -> None:
    with pytest.raises(UsageError, match="one dtype that are trained, got 0 of none"):
        SharedParameters(nn.Linear(2, 2).requires_grad_(False).parameters())


def test_grad_scaler_sees_an_overflow() -> None:
    net, balancer = Tiny(), MGDA(TASKS)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    shared, read = net.meeting("parameters")
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


def test_jacobian_balancers_are_tested_too() -> None:
    assert any(isinstance(build(row, TASKS), JacobianBalancer) for row in METHODS)
