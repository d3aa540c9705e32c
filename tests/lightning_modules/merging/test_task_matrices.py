"""TSV-M and Iso-C: by hand, by what must hold, and against plain code from their papers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_modules.merging.iso_c import IsoC
from lightning_modules.merging.task_matrices import TaskMatrixMerge
from lightning_modules.merging.tsv_m import TSVM, polar_factor
from tests.merging import LayerEvaluator, W, models, result

BOTH = [TSVM(), IsoC()]
named = pytest.mark.parametrize("method", BOTH, ids=lambda one: type(one).__name__)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def merged(method: TaskMatrixMerge, matrices: list[Tensor], start: Tensor | None = None) -> Tensor:
    start = torch.zeros_like(matrices[0]) if start is None else start
    return result(method, models([{W: start + one} for one in matrices], {W: start}))[W]


def test_two_tasks_at_45_degrees_are_turned_apart_by_half_of_it_each() -> None:
    """Columns at 0 and 45 degrees go to -22.5 and 67.5; the rows e1 and e2 stay."""
    u = torch.tensor([math.sqrt(0.5), math.sqrt(0.5)]).double()
    first, second = torch.zeros(2, 2).double(), torch.zeros(2, 2).double()
    first[0, 0] = 2
    second[:, 1] = 3 * u
    found = merged(TSVM(), [first, second])
    c, s = math.cos(math.pi / 8), math.sin(math.pi / 8)
    torch.testing.assert_close(found, torch.tensor([[2 * c, 3 * s], [-2 * s, 3 * c]]).double())


def test_tsv_m_of_one_model_at_full_rank_is_the_model() -> None:
    start, own = drawn(5, 7), drawn(5, 7, seed=1)
    torch.testing.assert_close(merged(TSVM(), [own], start), start + own)


def test_tsv_m_as_its_algorithm_says() -> None:
    """Each step of algorithm 1, with explicit zero-filled matrices."""
    matrices = [drawn(6, 9, seed=seed) for seed in (1, 2, 3)]
    u, s, v = torch.zeros(6, 6).double(), torch.zeros(6).double(), torch.zeros(6, 9).double()
    for place, one in enumerate(matrices):
        part = slice(2 * place, 2 * place + 2)
        own_u, own_s, own_v = torch.linalg.svd(one, full_matrices=False)
        u[:, part], s[part], v[part] = own_u[:, :2], own_s[:2], own_v[:2]
    p, _, q = torch.linalg.svd(u, full_matrices=False)
    p_v, _, q_v = torch.linalg.svd(v, full_matrices=False)
    start = drawn(6, 9)
    expected = start + 0.7 * p @ q @ s.diag() @ p_v @ q_v
    torch.testing.assert_close(merged(TSVM(0.7), matrices, start), expected)


def test_tsv_m_adds_up_tasks_that_do_not_meet() -> None:
    """Of other rows and columns: nothing is turned, and the leading half is all there is."""
    first, second = torch.zeros(4, 6).double(), torch.zeros(4, 6).double()
    first[:2, :3], second[2:, 3:] = drawn(2, 3, seed=1), drawn(2, 3, seed=2)
    torch.testing.assert_close(merged(TSVM(), [first, second]), first + second)


@pytest.mark.parametrize("models_of_a_layer", [5, 9])
def test_tsv_m_of_more_tasks_than_singular_values(models_of_a_layer: int) -> None:
    """Each has at least one, and the rows and columns are as near to orthogonal as can be."""
    found = merged(TSVM(), [drawn(3, 4, seed=seed) for seed in range(models_of_a_layer)])
    assert found.isfinite().all()
    assert torch.linalg.matrix_rank(found) == 3


def test_the_nearest_orthogonal_matrix() -> None:
    matrix = drawn(6, 4)
    found = polar_factor(matrix)
    torch.testing.assert_close(found.T @ found, torch.eye(4).double())
    stretch = found.T @ matrix  # symmetric and positive: the polar form
    torch.testing.assert_close(stretch, stretch.T)
    assert torch.linalg.eigvalsh(stretch).min() > 0


def test_iso_c_has_equal_singular_values_and_the_directions_of_the_sum() -> None:
    matrices = [drawn(6, 9, seed=seed) for seed in (1, 2, 3)]
    found, total = merged(IsoC(), matrices), sum(matrices, torch.zeros(6, 9).double())
    values = torch.linalg.svdvals(total)
    torch.testing.assert_close(torch.linalg.svdvals(found), values.mean().expand(6))
    torch.testing.assert_close(found / values.mean(), polar_factor(total))


@named
def test_a_turn_of_inputs_and_outputs_turns_the_result(method: TaskMatrixMerge) -> None:
    matrices = [drawn(5, 8, seed=seed) for seed in (1, 2)]
    left, right = torch.linalg.qr(drawn(5, 5))[0], torch.linalg.qr(drawn(8, 8))[0]
    turned = merged(method, [left @ one @ right for one in matrices])
    torch.testing.assert_close(turned, left @ merged(method, matrices) @ right)


@named
def test_a_model_that_did_not_move_takes_no_part(method: TaskMatrixMerge) -> None:
    """Its singular vectors are those of 0: any."""
    moved = torch.zeros(6, 8).double()
    moved[:3] = drawn(3, 8, seed=1)
    start = drawn(6, 8)
    found = merged(method, [moved, torch.zeros(6, 8).double()], start)
    torch.testing.assert_close(found, merged(method, [moved], start))
    still = merged(method, [torch.zeros(6, 8).double()] * 2, start)
    torch.testing.assert_close(still, start)


@named
def test_what_rounding_adds_to_thin_changes_does_not_count(method: TaskMatrixMerge) -> None:
    """Changes of rank 2 in weights of 32 bits, whose differences have full rank."""
    start = drawn(40, 50)
    thin = [0.01 * drawn(40, 2, seed=i) @ drawn(2, 50, seed=i + 7) for i in (1, 2)]
    exact = merged(method, thin, start)
    rounded = models([{W: (start + one).float()} for one in thin], {W: start.float()})
    torch.testing.assert_close(result(method, rounded)[W], exact.float(), rtol=0, atol=1e-5)


@named
def test_kernels_are_matrices_and_biases_are_averaged(method: TaskMatrixMerge) -> None:
    kernels = [drawn(4, 2, 3, 3, seed=seed) for seed in (1, 2)]
    biases = [drawn(4, seed=seed) for seed in (3, 4)]
    start = {W: torch.zeros(4, 2, 3, 3).double(), "bias": drawn(4)}
    states = [{W: k, "bias": start["bias"] + b} for k, b in zip(kernels, biases, strict=True)]
    found = result(type(method)(2.0), models(states, start))
    flat = merged(method, [kernel.flatten(1) for kernel in kernels])
    torch.testing.assert_close(found[W].flatten(1), 2 * flat)
    torch.testing.assert_close(found["bias"], start["bias"] + sum(biases, torch.zeros(4)))


@named
def test_several_scales_cost_one_decomposition(
    method: TaskMatrixMerge, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = type(method)([0.5, 1.0, 2.0])
    states = models([{W: drawn(1, 3, seed=i)} for i in (1, 2)], {W: torch.zeros(1, 3).double()})
    count, own = [0], several.combine_matrices

    def counted(matrices: list[Tensor], noise: float) -> Tensor:
        count[0] += 1
        return own(matrices, noise)

    monkeypatch.setattr(several, "combine_matrices", counted)
    target = merged(type(method)(2.0), [drawn(1, 3, seed=i) for i in (1, 2)])
    one = (torch.ones(1, 3), torch.zeros(1))
    evaluator = LayerEvaluator(states, {"t0": one}, lambda s: -(s[W] - target).abs().sum().item())
    found = several.merge(states, evaluator)
    assert (found.coefficients["scale"], count) == (2.0, [1])
    torch.testing.assert_close(found.state[W], target)
