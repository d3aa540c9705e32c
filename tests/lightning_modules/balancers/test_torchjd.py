"""What TorchJD answers to the same gradients and losses, for every method that both have.

Where TorchJD follows a paper's mean over tasks, our sum is T times its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchjd import aggregation as jd
from torchjd import scalarization as jds
from torchjd.linalg import DualConeProjector

from lightning_modules.balancers.aligned_mtl import AlignedMTL
from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.cagrad import CAGrad
from lightning_modules.balancers.config import ConFIG
from lightning_modules.balancers.cosmos import Cosmos
from lightning_modules.balancers.cr_mogm import CRMOGM
from lightning_modules.balancers.double_sampling import DoubleSampling
from lightning_modules.balancers.dualproj import DualProj
from lightning_modules.balancers.dynamic_weight_average import DynamicWeightAverage
from lightning_modules.balancers.excess_mtl import ExcessMTL
from lightning_modules.balancers.fairgrad import FairGrad
from lightning_modules.balancers.famo import FAMO
from lightning_modules.balancers.geometric_mean import GeometricMean
from lightning_modules.balancers.graddrop import GradDrop
from lightning_modules.balancers.gradient_base import (
    GradientBalancer,
    GramianBalancer,
    JacobianBalancer,
)
from lightning_modules.balancers.gradvac import GradVac
from lightning_modules.balancers.imtl_g import IMTLG
from lightning_modules.balancers.imtl_l import IMTLL
from lightning_modules.balancers.krum import Krum
from lightning_modules.balancers.mgda import MGDA
from lightning_modules.balancers.modo import MoDo
from lightning_modules.balancers.pbi import PBI
from lightning_modules.balancers.pcd import PCD
from lightning_modules.balancers.pcgrad import PCGrad
from lightning_modules.balancers.sdmgrad import SDMGrad
from lightning_modules.balancers.smooth_tchebycheff import SmoothTchebycheff
from lightning_modules.balancers.step_random import RandomOrder
from lightning_modules.balancers.stochastic_sdmgrad import StochasticSDMGrad
from lightning_modules.balancers.trimmed_mean import TrimmedMean
from lightning_modules.balancers.upgrad import UPGrad
from tests.lightning_modules.balancers.test_gramian import KINDS, jacobian, names

COUNTS = (1, 2, 4, 20)
Make = Callable[[Sequence[str]], Any]


class Clarabel(DualConeProjector):
    """The projection by a general solver; TorchJD's own needs a package under the GPL."""

    def __call__(self, U: Tensor, G: Tensor) -> Tensor:  # noqa: N803  # as named there
        import cvxpy  # here, as it takes half a second

        lengths = G.diagonal().sqrt().numpy()  # solved for lengths times weights
        values, vectors = np.linalg.eigh(G.numpy() / lengths / lengths[:, None])
        root = np.sqrt(values.clip(0))[:, None] * vectors.T
        rows = []
        for reference in torch.atleast_2d(U).numpy() * lengths:
            unit = np.abs(reference).max()
            v = cvxpy.Variable(len(G))
            goal = cvxpy.Minimize(cvxpy.sum_squares(root @ v))
            cvxpy.Problem(goal, [v >= reference / unit]).solve(cvxpy.CLARABEL)
            rows.append(v.value * unit / lengths)
        return torch.tensor(np.array(rows)).reshape(U.shape)


def combined(balancer: GradientBalancer, rows: Tensor) -> Tensor:
    """Our combined gradient (P,) of the gradients (T, P)."""
    losses = torch.ones(len(rows), dtype=torch.float64)
    if isinstance(balancer, GramianBalancer):
        return balancer.weigh(rows @ rows.T, losses, balancer.tasks) @ rows
    assert isinstance(balancer, JacobianBalancer)
    return balancer.combine(rows, losses, balancer.tasks)


def close(found: Tensor, expected: Tensor, rtol: float = 1e-4) -> None:
    """Check that two combinations agree, relative to the size of the expected one."""
    assert (found - expected).norm() <= rtol * expected.norm() + 1e-9


# {name: (ours, theirs, factor on theirs)}
METHODS: dict[str, tuple[Make, Callable[[], Any], Callable[[int], float]]] = {
    "upgrad": (UPGrad, lambda: jd.UPGrad(projector=Clarabel()), lambda t: t),
    "dualproj": (DualProj, lambda: jd.DualProj(projector=Clarabel()), lambda t: t),
    "cagrad": (
        lambda tasks: CAGrad(tasks, 0.5),
        lambda: jd.CAGrad(0.5, norm_eps=1e-9),
        lambda t: t / 1.5,
    ),
    "imtl_g": (IMTLG, jd.IMTLG, lambda t: t),
    "config": (ConFIG, jd.ConFIG, lambda t: 1),
    "aligned_mtl": (AlignedMTL, jd.AlignedMTL, lambda t: t),
    "aligned_mtl, median": (
        lambda tasks: AlignedMTL(tasks, "median"),
        lambda: jd.AlignedMTL(scale_mode="median"),
        lambda t: t,
    ),
    "aligned_mtl, rmse": (
        lambda tasks: AlignedMTL(tasks, "rmse"),
        lambda: jd.AlignedMTL(scale_mode="rmse"),
        lambda t: t,
    ),
    "trimmed_mean": (TrimmedMean, lambda: jd.TrimmedMean(1), lambda t: t),
}
CASES = [
    (name, kind, count)
    for name in METHODS
    for kind in KINDS
    for count in COUNTS
    if count >= (3 if name == "trimmed_mean" else 1) and (count > 1 or kind == "random")
]


@pytest.mark.parametrize(("name", "kind", "count"), CASES)
def test_combination(name: str, kind: str, count: int) -> None:
    ours, theirs, factor = METHODS[name]
    rows = jacobian(kind, count)
    balancer = ours(names(count))
    found = combined(balancer, rows)
    # ours leaves out a task without gradient where it weighs tasks
    has = (rows.norm(dim=1) > 0) | torch.tensor(isinstance(balancer, JacobianBalancer))
    expected = theirs()(rows[has]) * factor(int(has.sum()))
    if name == "imtl_g" and kind == "parallel":  # only the direction is determined
        expected = expected * (found.norm() / expected.norm())
    close(found, expected, 1e-3)


PREFERRED: dict[str, tuple[Callable[..., Any], Callable[[Tensor], Any], int]] = {
    "upgrad": (UPGrad, lambda p: jd.UPGrad(p, projector=Clarabel()), 1),
    "dualproj": (DualProj, lambda p: jd.DualProj(p, projector=Clarabel()), 1),
    "config": (ConFIG, jd.ConFIG, 1),
    "aligned_mtl": (AlignedMTL, jd.AlignedMTL, 1),
    "sdmgrad": (SDMGrad, lambda p: SDMGradTo(p / len(p)), 4),
}


class SDMGradTo:
    """Their descent, after many steps."""

    def __init__(self, preference: Tensor) -> None:
        self.weighting = jd.SDMGradWeighting(
            lr=0.1, momentum=0.5, n_iter=5000, lambda_=0.3, pref_vector=preference
        )

    def __call__(self, rows: Tensor) -> Tensor:
        return self.weighting(rows @ rows.T) @ rows


@pytest.mark.parametrize("name", PREFERRED)
@pytest.mark.parametrize("kind", ["random", "conflicting"])
def test_preference(name: str, kind: str) -> None:
    ours, theirs, factor = PREFERRED[name]
    rows = jacobian(kind, 4)
    found = combined(ours(names(4), preference={"t0": 3.0, "t2": 0.5}), rows)
    p = torch.tensor([3.0, 1.0, 0.5, 1.0], dtype=torch.float64)
    close(found, theirs(p)(rows) * factor, 1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", COUNTS)
def test_mgda_is_at_least_as_short(kind: str, count: int) -> None:
    """Theirs stops near the shortest convex combination, the nearer the more steps it may take."""
    rows = jacobian(kind if count > 1 else "random", count)
    has = rows.norm(dim=1) > 0
    found = combined(MGDA(names(count)), rows)
    expected = jd.MGDA(1e-9, 10_000)(rows[has]) * has.sum()
    assert found.norm() <= expected.norm() * (1 + 1e-9) + 1e-12
    if kind != "badly scaled":
        close(found, expected, 3e-2)


@pytest.mark.parametrize("kind", ["random", "conflicting"])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("count", [2, 4, 8])
def test_fairgrad(kind: str, alpha: float, count: int) -> None:
    """Their solver wants gradients of about one length."""
    rows = jacobian(kind, count)
    gramian = rows @ rows.T
    scaled = gramian / gramian.diagonal().mean()
    expected = jd.FairGradWeighting(alpha, max_iters=10_000)(scaled)
    ones = torch.ones(count, dtype=torch.float64)
    found = FairGrad(names(count), alpha).weigh(gramian, ones, names(count))
    assert torch.allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize("count", [3, 4, 20])
@pytest.mark.parametrize("kind", KINDS)
def test_krum(kind: str, count: int) -> None:
    rows = jacobian(kind if kind != "zero row" else "random", count)
    outliers = 0 if count == 3 else 1
    found = combined(Krum(names(count), outliers, 2), rows)
    close(found, jd.Krum(outliers, 2)(rows) * count)


@pytest.fixture
def in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both meet the tasks in the order of their rows."""
    monkeypatch.setattr(torch, "randperm", lambda n: torch.arange(n))
    monkeypatch.setattr(
        RandomOrder, "next", lambda self, tasks: [list(range(len(tasks))) for _ in tasks]
    )


@pytest.mark.usefixtures("in_order")
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", KINDS)
def test_pcgrad(kind: str, count: int) -> None:
    rows = jacobian(kind if count > 1 and kind != "zero row" else "random", count)
    close(combined(PCGrad(names(count)), rows), jd.PCGrad()(rows))


@pytest.mark.usefixtures("in_order")
@pytest.mark.parametrize("count", [2, 4, 20])
def test_gradvac_over_steps(count: int) -> None:
    ours, theirs = GradVac(names(count), rate=0.3), jd.GradVac(beta=0.3, eps=0.0)
    for seed in range(6):
        rows = jacobian("conflicting" if seed % 2 else "random", count, seed=seed)
        close(combined(ours, rows), theirs(rows))


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("strength", [0.1, 0.3, 2.0])
def test_sdmgrad(strength: float, count: int) -> None:
    """Theirs descends; after many steps it has arrived at the exact direction."""
    rows = jacobian("conflicting", count)
    gramian = rows @ rows.T
    theirs = jd.SDMGradWeighting(lr=0.1, momentum=0.5, n_iter=5000, lambda_=strength)
    close(combined(SDMGrad(names(count), strength), rows), theirs(gramian) @ rows * count)


def test_cr_mogm_over_steps() -> None:
    count = 4
    ours = CRMOGM(names(count), MGDA(names(count)), rate=0.7)
    theirs = jd.CRMOGMWeighting(
        jd.MGDAWeighting(1e-9, 100_000), 0.7, torch.full((count,), 1 / count).double()
    )
    for seed in range(6):
        rows = jacobian("conflicting", count, seed=seed)
        close(combined(ours, rows), theirs(rows @ rows.T) @ rows * count, 1e-2)


@pytest.mark.parametrize("warmup", [1, 3])
def test_excess_mtl_over_steps(warmup: int) -> None:
    count = 3
    ours, theirs = ExcessMTL(names(count), 0.1, warmup), jd.ExcessMTL(0.1, n_warmup_steps=warmup)
    for seed in range(6):
        rows = jacobian("random", count, seed=seed)
        close(combined(ours, rows), theirs(rows) * count)


@pytest.mark.parametrize("kind", ["random", "conflicting", "parallel", "badly scaled"])
@pytest.mark.parametrize("tau", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("count", COUNTS)
def test_pcd_over_steps(kind: str, tau: float, count: int) -> None:
    ours, theirs = PCD(names(count), "t0", tau, decay=0.9), jd.PCD(tau, beta=0.9)
    for seed in range(4):
        rows = jacobian(kind if count > 1 else "random", count, seed=seed)
        close(combined(ours, rows), theirs(rows), 1e-5)


def test_pcd_drops_constraints_that_contradict_each_other() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -2.0]]).double()
    close(combined(PCD(names(3), "t0"), rows), rows[0])


def pairs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two noisy Jacobians of the same gradients."""
    rows = jacobian("conflicting", count)
    noise = 0.3 * jacobian("random", 2 * count, seed=seed).view(2, count, -1)
    return rows + noise[0], rows + noise[1]


def of_two_parts(balancer: DoubleSampling, first: Tensor, second: Tensor) -> Tensor:
    """The combination of a step of two parts."""
    ones = torch.ones(len(first), dtype=torch.float64)
    balancer._first, balancer._calls = dict(zip(balancer.tasks, first, strict=True)), 2
    return balancer.combine((first + second) / 2, ones, balancer.tasks)


@pytest.mark.parametrize("count", [2, 4])
def test_modo_over_steps(count: int) -> None:
    ours, theirs = MoDo(names(count), gamma=0.3, rho=0.1), jd.MoDoWeighting(gamma=0.3, rho=0.1)
    for seed in range(6):
        first, second = pairs(count, seed)
        unit = (first.norm(dim=1) * second.norm(dim=1)).mean()
        weights = theirs(first @ second.T / unit) * count
        close(of_two_parts(ours, first, second), weights @ (first + second) / 2, 1e-9)


@pytest.mark.parametrize("count", [2, 4])
def test_stochastic_sdmgrad_over_steps(count: int) -> None:
    ours = StochasticSDMGrad(names(count), strength=0.5, lr=0.2)
    theirs = jd.SDMGradWeighting(lr=0.2, momentum=0.5, n_iter=20, lambda_=0.5)
    for seed in range(6):
        first, second = pairs(count, seed)
        products = first @ second.T
        unit = (first.norm(dim=1) * second.norm(dim=1)).mean()
        scale = products.diagonal().clamp(min=0).sqrt().mean() ** 2  # their unit
        theirs.lr = 0.2 * float(scale / unit)
        weights = theirs(products) * count
        close(of_two_parts(ours, first, second), weights @ (first + second) / 2, 1e-6)


def test_graddrop() -> None:
    rows = jacobian("random", 4, 1000).float()
    ours = GradDrop(names(4), seed=5)
    torch.manual_seed(ours.draws.generator().initial_seed())
    close(combined(ours, rows), jd.GradDrop()(rows), 1e-6)


LOSSES = torch.tensor([0.4, 3.0, 1.2])
PREFERENCE = {"t0": 0.5, "t1": 2.0, "t2": 1.0}
IDEAL = {"t0": 0.1, "t1": 1.0, "t2": 0.0}
P, Z = (torch.tensor(list(given.values())) for given in (PREFERENCE, IDEAL))
SCALARIZERS: dict[str, tuple[LossBalancer, Any, float]] = {
    "geometric_mean": (GeometricMean(names(3)), jds.GeometricMean(), 3),
    "imtl_l": (IMTLL(names(3)), jds.IMTLL(3), 1),
    "smooth_tchebycheff": (
        SmoothTchebycheff(names(3), 0.3, PREFERENCE, IDEAL),
        jds.STCH(0.3, P, Z),
        3,
    ),
    "cosmos": (Cosmos(names(3), 1.5, PREFERENCE), jds.COSMOS(1.5, P), 1),
    "pbi": (PBI(names(3), 2.0, PREFERENCE, IDEAL), jds.PBI(2.0, P, Z), float(P.norm())),
}


@pytest.mark.parametrize("name", SCALARIZERS)
def test_scalarization(name: str) -> None:
    ours, theirs, factor = SCALARIZERS[name]
    found, expected = LOSSES.clone().requires_grad_(), LOSSES.clone().requires_grad_()
    value = ours.objective(dict(zip(names(3), found.unbind(), strict=True)))
    other = theirs(expected) * factor
    assert value.item() == pytest.approx(other.item(), rel=1e-5)
    close(*(torch.autograd.grad(v, x)[0] for v, x in ((value, found), (other, expected))), 1e-5)


def test_famo_over_steps() -> None:
    ours, theirs = FAMO(names(3), ideal=IDEAL), jds.FAMO(3, min_losses=Z)
    draws = torch.Generator().manual_seed(0)
    for _ in range(20):
        before, after = (1 + torch.rand(2, 3, generator=draws)).unbind()
        named = dict(zip(names(3), before.unbind(), strict=True))
        values = before.clone().requires_grad_()
        expected = torch.autograd.grad(theirs(values), values)[0] * 3
        close(ours.weights(before, names(3)), expected, 1e-5)
        ours.observe(named, is_accumulation_end=True)
        ours.after_step(dict(zip(names(3), after.unbind(), strict=True)))
        theirs.update(after)


def test_dynamic_weight_average_over_epochs() -> None:
    ours, theirs = DynamicWeightAverage(names(3)), jds.DWA()
    draws = torch.Generator().manual_seed(0)
    for epoch in range(5):
        ours.begin_epoch(epoch)
        for _ in range(4):
            losses = torch.rand(3, generator=draws)
            values = losses.clone().requires_grad_()
            expected = torch.autograd.grad(theirs(values), values)[0]
            close(ours.weights(losses, names(3)), expected, 1e-5)
            ours.observe(
                dict(zip(names(3), losses.unbind(), strict=True)), is_accumulation_end=True
            )
        theirs.step()
