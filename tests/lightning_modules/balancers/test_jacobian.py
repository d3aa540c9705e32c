"""Gradients combined number by number."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.balancers.auto_lambda import AutoLambda
from lightning_modules.balancers.db_mtl import DBMTL
from lightning_modules.balancers.double_sampling import DoubleSampling
from lightning_modules.balancers.equal import Equal
from lightning_modules.balancers.excess_mtl import ExcessMTL
from lightning_modules.balancers.graddrop import GradDrop
from lightning_modules.balancers.gradient_base import JacobianBalancer
from lightning_modules.balancers.moco import MoCo
from lightning_modules.balancers.modo import MoDo
from lightning_modules.balancers.shared_gradients import FeatureGradients
from lightning_modules.balancers.solvers import project_to_simplex
from lightning_modules.balancers.stochastic_sdmgrad import StochasticSDMGrad
from lightning_modules.balancers.trimmed_mean import TrimmedMean
from pollinate.errors import UsageError
from tests.lightning_modules.balancers.build import build
from tests.lightning_modules.balancers.nets import TASKS, Tiny, rows, same
from tests.lightning_modules.balancers.test_gramian import KINDS, jacobian, names
from tests.rows.balancers import JACOBIAN_BALANCERS
from tests.rows.row import Row, ids

each = pytest.mark.parametrize("row", JACOBIAN_BALANCERS, ids=ids)


def of(row: Row, count: int) -> JacobianBalancer:
    balancer = build(row, names(count))
    assert isinstance(balancer, JacobianBalancer)
    return balancer


def combine(balancer: JacobianBalancer, rows: Tensor) -> Tensor:
    losses = torch.ones(len(rows), dtype=torch.float64)
    return balancer.combine(rows, losses, balancer.tasks)


@each
def test_row(row: Row) -> None:
    rows = torch.tensor(row.given)
    found = combine(of(row, len(rows)), rows)
    assert found.tolist() == pytest.approx(row.expected)


@each
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 4, 20])
def test_finite_over_steps(row: Row, kind: str, count: int) -> None:
    balancer = of(row, count)
    for seed in range(5):
        rows = jacobian(kind if count > 1 else "random", count, seed=seed)
        found = combine(balancer, rows)
        assert torch.isfinite(found).all()
        assert found.shape == rows[0].shape


@each
def test_order_of_tasks_does_not_matter(row: Row) -> None:
    order = [2, 0, 3, 1]
    one = of(row, 4)
    turned = build(row, [names(4)[i] for i in order])
    assert isinstance(turned, JacobianBalancer)
    for seed in range(3):
        rows = jacobian("random", 4, seed=seed)
        assert torch.allclose(combine(one, rows), combine(turned, rows[order]))


@each
def test_absent_tasks_keep_their_state(row: Row) -> None:
    balancer = of(row, 3)
    combine(balancer, jacobian("random", 3))
    rows = jacobian("random", 2, seed=1)
    found = balancer.combine(rows, torch.ones(2, dtype=torch.float64), ["t0", "t2"])
    assert torch.isfinite(found).all()


def test_graddrop_keeps_a_sign_as_often_as_it_is_strong() -> None:
    rows = torch.tensor([[3.0], [-1.0]]).expand(2, 20_000)
    found = combine(GradDrop(names(2)), rows)
    assert set(found.tolist()) == {3.0, -1.0}
    assert (found > 0).float().mean().item() == pytest.approx(0.75, abs=0.02)


def paper_graddrop(
    features: Tensor, gradients: Tensor, drawn: Tensor
) -> Tensor:  # algorithm 1, one column at a time
    """features: (N, D), gradients: (T, N, D), drawn: (D,) -> (N, D)."""
    found = torch.zeros_like(features)
    for d in range(features.shape[1]):
        sums = [(features[:, d].sign() * g[:, d]).sum() for g in gradients]
        purity = (1 + sum(sums) / sum(abs(s) for s in sums)) / 2
        for s, g in zip(sums, gradients, strict=True):
            if (s > 0) if purity > drawn[d] else (s < 0):
                found[:, d] += g[:, d]
    return found


def test_graddrop_on_features_is_the_paper_s() -> None:
    net, balancer = Tiny(), GradDrop(TASKS, seed=3)
    drawn = torch.rand(6, generator=balancer.draws.generator())
    features = net.shared(rows(7)).detach().requires_grad_()
    losses = Tiny().losses(rows(7), lambda _, z: features)
    gradients = torch.stack([torch.autograd.grad(one, features)[0] for one in losses.values()])
    wanted = paper_graddrop(features.detach(), gradients, drawn)
    net.shared(rows(7)).backward(wanted)
    expected = {name: gradient for name, gradient in net.gradients().items() if "shared" in name}
    net.zero_grad()
    shared, read = net.engine("features")
    balancer.backward(net.losses(rows(7), read), shared)
    found = {name: gradient for name, gradient in net.gradients().items() if "shared" in name}
    same(found, expected)


def test_graddrop_draws_once_a_column_for_tasks_of_different_rows() -> None:
    """Two tasks that pull one column apart, each in its own rows: one of them wins it in all."""
    source = nn.Parameter(torch.ones(4, 50))
    for seed in range(3):
        cut, balancer = FeatureGradients(), GradDrop(["a", "b"], seed)
        first, second = source[:2] * 1, source[2:] * 1
        source.grad = None
        balancer.backward({"a": cut("a", first).sum(), "b": -cut("b", second).sum()}, cut)
        kept = source.grad != 0
        assert (kept[:2].all(dim=0) ^ kept[2:].all(dim=0)).all()
        assert (kept[:2].any(dim=0) ^ kept[2:].any(dim=0)).all()
        assert 0 < kept[0].sum() < 50


def test_trimmed_mean_of_few_tasks_is_the_sum() -> None:
    rows = jacobian("random", 2)
    assert torch.allclose(combine(TrimmedMean(names(2)), rows), rows.sum(dim=0))


def test_moco_finds_the_shortest_combination_of_steady_gradients() -> None:
    balancer = MoCo(names(2), beta=0.5, gamma=0.1)
    rows = torch.tensor([[2.0, 0.0], [-1.0, 1.0]])
    for _ in range(200):
        found = combine(balancer, rows)
    assert torch.allclose(found, torch.tensor([0.8 - 0.6, 0.6]) * 2, atol=1e-3)


@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_db_mtl_is_the_paper_s(sigma: float) -> None:
    """y_k = g_k + b_k (y - g_k), all brought to the longest; the first step starts at g."""
    balancer, tracked = DBMTL(names(3), 0.8, sigma), torch.zeros(())
    for step in range(1, 6):
        rows = jacobian("badly scaled", 3, seed=step)
        kept = 0.0 if step == 1 else 0.8 / step**sigma
        tracked = rows + kept * (tracked - rows)
        lengths = tracked.norm(dim=1)
        expected = sum(lengths.max() / n * y for n, y in zip(lengths, tracked, strict=True))
        assert torch.allclose(combine(balancer, rows), expected)


def test_db_mtl_takes_the_logarithms_of_the_losses() -> None:
    net, logs = Tiny(), Tiny()
    balancer = DBMTL(TASKS, beta=0.0)
    balancer.backward(net.losses(rows()), net.engine("parameters")[0])
    losses = {task: torch.log(loss + 1e-8) for task, loss in logs.losses(rows()).items()}
    plain = DBMTL(TASKS, beta=0.0, losses=Equal(TASKS))
    plain.backward(losses, logs.engine("parameters")[0])
    same(net.gradients(), logs.gradients())


@pytest.mark.parametrize("method", [MoDo, StochasticSDMGrad])
def test_parts_of_a_step_are_independent_samples(method: type[DoubleSampling]) -> None:
    """Two accumulated parts: A of the first, B of the second, at the same weights."""
    net, balancer, wanted = Tiny(), method(TASKS), method(TASKS)
    shared, read = net.engine("parameters")
    jacobians = []
    for seed in (1, 2):
        engine, _ = net.engine("parameters")
        losses = net.losses(rows(seed=seed))
        engine.differentiate(losses, dict.fromkeys(losses, torch.ones(())))
        jacobians.append(engine.jacobian(TASKS))
    net.zero_grad()
    for seed in (1, 2):
        losses = net.losses(rows(seed=seed), read)
        objective = balancer.objective(losses) / 2
        balancer.backward(losses, shared, objective=objective, is_accumulation_end=seed == 2)
    first, second = jacobians
    unit = (first.norm(dim=1) * second.norm(dim=1)).mean()
    share = torch.full((3,), 1 / 3, dtype=torch.float64)
    moved = wanted.descend(share, (first @ second.T / unit).double(), TASKS)
    torch.testing.assert_close(balancer.weight, moved, rtol=1e-5, atol=1e-6)
    found = torch.cat([p.grad.flatten() for p in net.shared.parameters()])
    mean = (first + second) / 2
    torch.testing.assert_close(
        found, wanted.combined(moved, TASKS).float() @ mean, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("method", [MoDo, StochasticSDMGrad])
def test_without_parts_the_step_before_is_the_other_sample(method: type[DoubleSampling]) -> None:
    balancer, wanted = method(names(3)), method(names(3))
    first, second = jacobian("conflicting", 3), jacobian("conflicting", 3, seed=1)
    combine(balancer, first)
    assert torch.allclose(balancer.weight, torch.full((3,), 1 / 3).double())
    combine(balancer, second)
    unit = (first.norm(dim=1) * second.norm(dim=1)).mean()
    share = torch.full((3,), 1 / 3, dtype=torch.float64)
    moved = wanted.descend(share, first @ second.T / unit, names(3))
    assert torch.allclose(balancer.weight, moved)


def test_the_noise_of_a_batch_does_not_pull_modo_to_the_quiet_task() -> None:
    """Both tasks have the same gradient; one of them is noisy. The Gramian of one batch differs."""
    draws = torch.Generator().manual_seed(0)
    mean = torch.ones(2, 400, dtype=torch.float64)
    balancer, biased = MoDo(names(2), gamma=0.01, rho=0.0), MoCo(names(2), beta=1.0, gamma=0.01)
    for _ in range(150):
        noise = torch.randn(2, 400, generator=draws, dtype=torch.float64)
        rows = mean + torch.tensor([[2.0], [0.1]]) * noise
        combine(balancer, rows)
        combine(biased, rows)
    assert balancer.weight[0] > 0.4
    assert biased.weight[0] < 0.25


def test_excess_mtl_raises_the_task_that_stays_behind() -> None:
    balancer = ExcessMTL(names(2), lr=0.1)
    for step in range(20):
        combine(balancer, torch.tensor([[1.0, 0.0], [0.0, 0.5**step]]))
    assert balancer.weight[0] > 1 > balancer.weight[1]
    assert balancer.weight.sum().item() == pytest.approx(2)


def test_auto_lambda_raises_what_helps_the_primary_task() -> None:
    balancer = AutoLambda(names(3), primary=["t0"], lr=0.1)
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.1]])
    for _ in range(5):
        combine(balancer, rows)
    helps, harms = balancer.weight[1], balancer.weight[2]
    assert helps.item() == pytest.approx(1.4)
    assert harms < 0.7


def test_auto_lambda_looks_ahead() -> None:
    """The derivative of the last part's primary loss after a trial step, by w, by autograd."""
    net, parts, primary = Tiny(), [rows(seed=seed) for seed in (1, 2, 3)], "b"
    balancer = AutoLambda(TASKS, primary=[primary], lr=0.1, trial_lr=0.05)
    shared, _ = net.engine("parameters")
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for number, part in enumerate(parts):
        losses = net.losses(part)
        balancer.probe = lambda: net.losses(parts[-1])
        objective = balancer.objective(losses) / 3
        balancer.backward(losses, shared, objective=objective, is_accumulation_end=number == 2)
    assert all(torch.equal(before[name], p) for name, p in net.named_parameters())
    found = torch.cat([p.grad.flatten() for p in net.shared.parameters()])

    other, weight = Tiny(), torch.ones(3, requires_grad=True)
    inner = list(other.shared.named_parameters())
    jacobian, whole = (
        torch.stack(
            [
                torch.cat([g.flatten() for g in torch.autograd.grad(mean, [p for _, p in inner])])
                for mean in (
                    torch.stack([other.losses(part)[task] for part in some]).mean()
                    for task in TASKS
                )
            ]
        )
        for some in (parts[:-1], parts)
    )
    split = torch.split(weight @ jacobian, [p.numel() for _, p in inner])
    moved = {n: p - 0.05 * s.view_as(p) for (n, p), s in zip(inner, split, strict=True)}
    features = torch.func.functional_call(other.shared, moved, parts[-1])
    targets = torch.arange(5).float()[:, None]
    loss = torch.nn.functional.mse_loss(other.heads[primary](features), 2 * targets)
    slope = torch.autograd.grad(loss, weight, retain_graph=True)[0]
    goal = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(moved.values()))])
    cosines = -slope / 0.05 / jacobian.norm(dim=1) / goal.norm()
    expected = 1 + 0.1 * cosines
    torch.testing.assert_close(balancer.weight.float(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found * 3, expected @ whole * 3, rtol=1e-4, atol=1e-6)


def test_auto_lambda_refuses_an_unknown_task() -> None:
    with pytest.raises(UsageError, match="primary names b; the tasks are a"):
        AutoLambda(["a"], primary=["b"])


@pytest.mark.parametrize("row", JACOBIAN_BALANCERS[2:], ids=ids)
def test_methods_with_memory_refuse_features(row: Row) -> None:
    with pytest.raises(UsageError, match="level must be auto or parameters, got features"):
        build(Row(row.group, row.option, None, None, {"level": "features"}), ["a"])


def test_project_is_the_nearest_point_of_the_simplex() -> None:
    draws = torch.Generator().manual_seed(0)
    for _ in range(20):
        point = torch.randn(5, generator=draws, dtype=torch.float64)
        found = project_to_simplex(point)
        assert found.min() >= 0
        assert found.sum().item() == pytest.approx(1)
        for other in torch.eye(5, dtype=torch.float64):  # no corner lies on its far side
            assert (point - found) @ (other - found) <= 1e-9
