"""Weights from inner products: hand values, identities, and another library's answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cvxpy
import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules.balancers import solvers
from lightning_modules.balancers.cagrad import CAGrad
from lightning_modules.balancers.cr_mogm import CRMOGM
from lightning_modules.balancers.dualproj import DualProj
from lightning_modules.balancers.fairgrad import FairGrad
from lightning_modules.balancers.gradient_base import GramianBalancer
from lightning_modules.balancers.gradnorm import GradNorm
from lightning_modules.balancers.gradvac import GradVac
from lightning_modules.balancers.mgda import MGDA
from lightning_modules.balancers.nash_mtl import NashMTL
from lightning_modules.balancers.pcgrad import PCGrad
from lightning_modules.balancers.sdmgrad import SDMGrad
from lightning_modules.balancers.solvers import LEAST_EIGENVALUE, fair, lengths_and_cosines
from lightning_modules.balancers.uncertainty import Uncertainty
from lightning_modules.balancers.upgrad import UPGrad
from pollinate.errors import UsageError
from tests.lightning_modules.balancers.build import build
from tests.rows.balancers import GRAMIAN_BALANCERS
from tests.rows.row import Row, ids

each = pytest.mark.parametrize("row", GRAMIAN_BALANCERS, ids=ids)


def names(count: int) -> list[str]:
    return [f"t{i}" for i in range(count)]


def jacobian(kind: str, count: int = 4, width: int = 30, seed: int = 0) -> Tensor:
    """Gradients (T, P) of a kind, float64."""
    draws = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, width, generator=draws, dtype=torch.float64)
    if kind == "conflicting":
        rows = rows - 1.2 * rows.mean(dim=0)
    elif kind == "parallel":
        rows[1] = 2 * rows[0]
    elif kind == "zero row":
        rows[1] = 0
    elif kind == "badly scaled":
        rows = rows * torch.logspace(-3, 3, count, dtype=torch.float64)[:, None]
    return rows


KINDS = ("random", "conflicting", "parallel", "zero row", "badly scaled")
COUNTS = (1, 2, 4, 20)


def weigh(balancer: GramianBalancer, rows: Tensor) -> Tensor:
    """The weights of gradients (T, P)."""
    tasks = balancer.tasks
    return balancer.weigh(rows @ rows.T, torch.ones(len(tasks), dtype=torch.float64), tasks)


def of(row: Row, count: int) -> GramianBalancer:
    balancer = build(row, names(count))
    assert isinstance(balancer, GramianBalancer)
    return balancer


@each
def test_row(row: Row) -> None:
    gramian = torch.tensor(row.given, dtype=torch.float64)
    balancer = of(row, len(gramian))
    ones = torch.ones(len(gramian), dtype=torch.float64)
    assert balancer.weigh(gramian, ones, balancer.tasks).tolist() == pytest.approx(row.expected)


@each
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", KINDS)
def test_finite_on_any_jacobian(row: Row, kind: str, count: int) -> None:
    rows = jacobian(kind if count > 1 else "random", count)
    weights = weigh(of(row, count), rows)
    assert torch.isfinite(weights).all()
    assert weights.dtype == torch.float64


@each
def test_scaling_all_gradients_changes_nothing(row: Row) -> None:
    rows = jacobian("conflicting")
    weights = weigh(of(row, 4), rows)
    assert torch.allclose(weigh(of(row, 4), 1e4 * rows), weights, rtol=1e-5, atol=1e-7)


@each
def test_order_of_tasks_does_not_matter(row: Row) -> None:
    rows, order = jacobian("conflicting"), [2, 0, 3, 1]
    turned = build(row, [names(4)[i] for i in order])
    assert isinstance(turned, GramianBalancer)
    expected = weigh(of(row, 4), rows)[order]
    assert torch.allclose(weigh(turned, rows[order]), expected, rtol=1e-6)


@each
def test_single_precision_is_enough(row: Row) -> None:
    rows = jacobian("random", 6, 2000)
    coarse = rows.float()
    weights = weigh(of(row, 6), rows)
    gramian = (coarse @ coarse.T).double()
    balancer = of(row, 6)
    found = balancer.weigh(gramian, torch.ones(6, dtype=torch.float64), balancer.tasks)
    assert torch.allclose(found, weights, rtol=1e-4, atol=1e-5)


@each
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_gramian_that_is_not_finite_gets_ones_and_moves_no_state(row: Row, wrong: float) -> None:
    balancer = of(row, 3)
    before = {name: state.clone() for name, state in balancer.state_dict().items()}
    gramian = torch.eye(3, dtype=torch.float64)
    gramian[1, 2] = wrong
    ones = torch.ones(3, dtype=torch.float64)
    assert balancer.weigh(gramian, ones, balancer.tasks).tolist() == [1.0] * 3
    for name, state in balancer.state_dict().items():
        assert torch.equal(before[name].nan_to_num(), state.nan_to_num()), name


# Conditions of optimality


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [2, 5, 20])
def test_mgda_is_the_point_of_least_norm(kind: str, count: int) -> None:
    rows = jacobian(kind, count)
    has = rows.norm(dim=1) > 0
    weights = weigh(MGDA(names(count)), rows) / has.sum()
    assert weights.min() >= 0
    assert weights.sum().item() == pytest.approx(1)
    products = (rows @ (weights @ rows))[has]
    # g_t . d >= |d|^2, with equality where w_t > 0
    square = (weights @ rows).square().sum()
    scale = rows.square().sum(dim=1).min() if has.all() else rows[has].square().sum(dim=1).min()
    assert (products >= square - 1e-6 * scale).all()
    active = weights[has] > 1e-6
    assert torch.allclose(products[active], square, rtol=1e-4, atol=1e-6 * scale.item())


@pytest.mark.parametrize("norm", ["l2", "loss", "loss+"])
def test_mgda_with_norms_weighs_divided_gradients(norm: str) -> None:
    rows = jacobian("badly scaled")
    losses = torch.tensor([0.5, 2.0, 1.0, 8.0], dtype=torch.float64)
    lengths = rows.norm(dim=1)
    divisor = {"l2": lengths, "loss": losses, "loss+": lengths * losses}[norm]
    divided = rows / divisor[:, None]
    found = MGDA(names(4), norm).weigh(rows @ rows.T, losses, names(4))
    plain = MGDA(names(4)).weigh(divided @ divided.T, losses, names(4))
    assert torch.allclose(found, plain, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", [UPGrad, DualProj])
@pytest.mark.parametrize("count", [2, 5, 20])
def test_projections_conflict_with_no_task(
    method: type[GramianBalancer], kind: str, count: int
) -> None:
    rows = jacobian(kind, count)
    weights = weigh(method(names(count)), rows)
    lengths = rows.norm(dim=1).clamp(min=1e-300)
    products = (rows / lengths[:, None]) @ (weights @ rows)
    assert (products >= -1e-6 * (weights.abs() * lengths).sum()).all()


@pytest.mark.parametrize("kind", ["random", "conflicting", "badly scaled"])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_fair_weights_solve_their_equation(kind: str, power: float, count: int) -> None:
    rows = jacobian(kind if count > 1 else "random", count, 60)
    gramian = (rows @ rows.T).numpy()
    weights = fair(gramian, power)
    assert weights.min() > 0
    assert np.allclose(gramian @ weights * weights**power, 1, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_nash_has_the_length_of_its_tasks_or_of_the_paper(scale: float) -> None:
    rows = scale * jacobian("conflicting")
    found, papers = (weigh(NashMTL(names(4), flag), rows) @ rows for flag in (True, False))
    mean = rows.square().sum(dim=1).mean()
    assert found.square().sum().item() == pytest.approx(4 * mean.item())
    assert papers.norm().item() == pytest.approx(2)  # sqrt T
    assert torch.allclose(found / found.norm(), papers / papers.norm())


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_fairgrad_as_in_the_paper(alpha: float) -> None:
    rows = 7 * jacobian("random")
    weights = weigh(FairGrad(names(4), alpha, normalize=False), rows)
    assert torch.allclose(rows @ rows.T @ weights, weights ** (-1 / alpha), rtol=1e-9)


def nearly_cancelling(count: int, left: float, seed: int = 0) -> Tensor:
    """Gradients (T, P) of which a positive combination has ``left`` of its usual length."""
    rows = jacobian("random", count, 60, seed)
    v = 0.2 + 1.8 * torch.rand(count, generator=torch.Generator().manual_seed(seed)).double()
    return rows - (1 - left) * torch.outer(v, v @ rows) / (v @ v)


@pytest.mark.parametrize("scales", [0, 3])
@pytest.mark.parametrize("left", [1e-1, 1e-2, 1e-4, 1e-8, 0.0])
@pytest.mark.parametrize("count", [2, 3, 8, 20])
def test_nash_near_pareto_points(
    count: int, left: float, scales: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = nearly_cancelling(count, left)
    rows = rows * torch.logspace(-scales, scales, count, dtype=torch.float64)[:, None]
    gramian = (rows @ rows.T).numpy()
    monkeypatch.setattr(solvers, "FAIR_STEPS", 20)
    weights = fair(gramian, 1.0)
    monkeypatch.undo()
    assert np.allclose(weights, fair(gramian, 1.0), rtol=1e-12)  # it had ended before
    assert weights.min() > 0
    lengths, cosines = lengths_and_cosines(gramian)
    assert np.square(weights * lengths).sum() <= count / LEAST_EIGENVALUE * (1 + 1e-6)
    if np.linalg.eigvalsh(cosines)[0] > 2 * LEAST_EIGENVALUE:
        assert np.allclose(gramian @ weights * weights, 1, atol=1e-8)
    if not left:  # nothing helps all tasks
        assert (torch.from_numpy(weights) @ rows).norm() < 1e-3 * np.sqrt(count)


@pytest.mark.parametrize("left", [1e-1, 1e-2, 1e-3])
def test_nash_is_what_a_general_solver_finds(left: float) -> None:
    rows = nearly_cancelling(4, left)
    gramian = (rows @ rows.T / rows.square().sum(dim=1).mean()).numpy()
    w = cvxpy.Variable(4)
    goal = cvxpy.sum_squares(np.linalg.cholesky(gramian).T @ w) / 2 - cvxpy.sum(cvxpy.log(w))
    cvxpy.Problem(cvxpy.Minimize(goal)).solve(cvxpy.CLARABEL)
    assert np.allclose(fair(gramian, 1.0), w.value, rtol=1e-4)


@pytest.mark.parametrize("kind", ["random", "conflicting", "badly scaled"])
def test_fairgrad_of_alpha_one_is_nash(kind: str) -> None:
    rows = jacobian(kind)
    assert torch.equal(weigh(FairGrad(names(4), 1.0), rows), weigh(NashMTL(names(4)), rows))


@pytest.mark.parametrize("seed", range(5))
def test_upgrad_is_pcgrad_for_two_tasks(seed: int) -> None:
    rows = jacobian("conflicting", 2, seed=seed)
    assert torch.allclose(weigh(UPGrad(names(2)), rows), weigh(PCGrad(names(2)), rows))


@pytest.mark.parametrize("kind", ["random", "conflicting", "badly scaled"])
@pytest.mark.parametrize("c", [0.2, 0.5, 0.9])
def test_cagrad_is_the_best_in_its_ball(kind: str, c: float) -> None:
    rows = jacobian(kind)
    found = weigh(CAGrad(names(4), c), rows) @ rows * (1 + c) / 4
    mean = rows.mean(dim=0)
    radius = c * mean.norm()
    assert (found - mean).norm().item() == pytest.approx(radius.item(), rel=1e-6)
    worst = (rows @ found).min()
    draws = torch.Generator().manual_seed(1)
    for _ in range(300):  # no direction near it is better for the worst task
        step = torch.randn(rows.shape[1], generator=draws, dtype=torch.float64)
        other = found + 0.05 * radius * (step @ torch.linalg.pinv(rows) @ rows) / step.norm()
        other = mean + (other - mean) * (radius / (other - mean).norm()).clamp(max=1)
        assert (rows @ other).min() <= worst + 1e-9 * rows.norm()


def test_sdmgrad_lies_between_mgda_and_the_sum() -> None:
    rows = jacobian("conflicting")
    none, all_of_it = (weigh(SDMGrad(names(4), s), rows) for s in (0.0, 1e6))
    assert torch.allclose(none, weigh(MGDA(names(4)), rows))
    assert torch.allclose(all_of_it, torch.ones(4, dtype=torch.float64), atol=1e-5)


def test_gradvac_raises_a_pair_to_its_usual_cosine() -> None:
    balancer = GradVac(names(2), rate=0.5)
    weigh(balancer, torch.tensor([[1.0, 0.0], [1.0, 1.0]]).double())  # cosine sqrt(1/2)
    usual = balancer.cosine[0, 1].item()
    assert usual == pytest.approx(0.5 * np.sqrt(0.5))
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double()
    weights = weigh(balancer, rows)
    # each row is turned to the usual cosine, at its length's share along the other
    turned = torch.tensor([1.0, weights[1].item() - 1.0])
    assert turned[1] / turned.norm() == pytest.approx(usual, rel=1e-6)


def test_gradvac_bears_gradients_that_were_parallel() -> None:
    balancer = GradVac(names(2), rate=1.0)
    weigh(balancer, torch.tensor([[1.0, 2.0], [1.0, 2.0]]).double())
    assert balancer.cosine[0, 1] == pytest.approx(1)
    weights = weigh(balancer, torch.tensor([[1.0, 2.0], [2.0, 1.0]]).double())
    assert (weights < 25).all()


def test_gradnorm_evens_out_lengths() -> None:
    balancer = GradNorm(names(2), alpha=0.0, lr=0.05)
    rows = torch.tensor([[4.0, 0.0], [0.0, 1.0]]).double()
    for _ in range(300):
        weights = weigh(balancer, rows)
    assert weights.sum().item() == pytest.approx(2)
    assert (weights[0] * 4 / weights[1]).item() == pytest.approx(1, abs=0.2)


def test_gradnorm_comes_to_rest_near_its_target() -> None:
    rows = torch.diag(torch.tensor([4.0, 1.0, 0.5]).double())
    balancer = GradNorm(names(3), alpha=0.0)
    weights = torch.stack([weigh(balancer, rows) for _ in range(1000)])[500:]
    lengths = weights * rows.diagonal()
    assert ((lengths / lengths.mean(dim=1, keepdim=True) - 1).abs() < 0.1).all()


def test_gradnorm_helps_who_trains_slowly() -> None:
    balancer = GradNorm(names(2), alpha=1.0)
    same = torch.eye(2, dtype=torch.float64)
    for losses in ([1.0, 1.0], [1.0, 0.1], [1.0, 0.1]):
        weights = balancer.weigh(same, torch.tensor(losses).double(), names(2))
    assert weights[0] > weights[1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MGDA(["a"], level="rows"), "level must be auto or features or parameters"),
        (lambda: MGDA(["a"], norm="l1"), r"norm must be none or l2 or loss or loss\+, got l1"),
        (lambda: CAGrad(["a"], c=-1), "c must be >= 0, got -1"),
        (lambda: FairGrad(["a"], alpha=0), r"alpha must be in \[0.2, 100\], got 0"),
        (lambda: GradVac(["a"], rate=0), "rate must be in"),
        (lambda: SDMGrad(["a"], strength=-1), "strength must be >= 0"),
        (lambda: UPGrad(["a"], {"b": 1.0}), "preference names 'b'; the tasks are a"),
        (lambda: UPGrad(["a"], {"a": 0.0}), "preference.a must be finite and > 0.0, got 0.0"),
        (lambda: GradNorm(["a"], lr=0), "lr > 0"),
        (
            lambda: CRMOGM(["a"], MGDA(["a"], level="features")),
            "method.level has no effect.* set balancer.level",
        ),
        (
            lambda: CRMOGM(["a"], MGDA(["a"], losses=Uncertainty(["a"]))),
            "method.losses has no effect.* set balancer.losses",
        ),
    ],
)
def test_wrong_options_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
