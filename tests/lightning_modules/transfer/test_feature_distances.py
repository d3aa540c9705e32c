"""The distances of feature transfer: by hand, by their properties, and against torchdistill."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules.transfer.adaptors import direction_distance
from lightning_modules.transfer.attention_transfer import attention_distance, attention_map
from lightning_modules.transfer.cka import debiased_cka
from lightning_modules.transfer.feature_pairs import match_grids
from lightning_modules.transfer.hints import hint_loss, vectors_of
from lightning_modules.transfer.relational import Relational, pairwise_distances, triplet_cosines


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def oracle() -> Any:
    return pytest.importorskip("torchdistill.losses.mid_level")


def test_hint_by_hand() -> None:
    own, other = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[3.0, 2.0], [1.0, 1.0]])
    assert hint_loss(own, other).tolist() == [2.0, 1.0]


def test_hint_of_tokens_leaves_padding_out() -> None:
    own, other = torch.zeros(1, 3, 2), torch.ones(1, 3, 2)
    other[0, 2] = 9.0
    mask = torch.tensor([[True, True, False]])
    assert hint_loss(own, other, mask).tolist() == [1.0]
    assert hint_loss(own, other).item() == pytest.approx((1 + 1 + 81) / 3)


def test_hint_of_grids_is_mse(oracle: Any) -> None:
    own, other = drawn(3, 4, 2, 5), drawn(3, 4, 2, 5, seed=1)
    expected = torch.nn.functional.mse_loss(own, other)
    assert torch.isclose(hint_loss(vectors_of(own), vectors_of(other)).mean(), expected)


def test_the_larger_of_two_grids_is_averaged() -> None:
    own, other = match_grids(drawn(2, 3, 4, 1), drawn(2, 5, 2, 3, seed=1))
    assert (own.shape, other.shape) == ((2, 3, 2, 1), (2, 5, 2, 1))
    assert torch.allclose(own[..., 0], drawn(2, 3, 2, 2).mean(dim=-1))
    assert torch.allclose(other[..., 0], drawn(2, 5, 2, 3, seed=1).mean(dim=-1))


def test_attention_by_hand() -> None:
    grid = torch.tensor([[[[1.0, 0.0]], [[2.0, 3.0]]]])  # two numbers a cell, 1 x 2 cells
    assert attention_map(grid).tolist() == [[[5.0, 9.0]]]
    tokens = torch.tensor([[[1.0, 2.0], [3.0, 0.0]]])
    assert attention_map(tokens, torch.tensor([[True, False]])).tolist() == [[5.0, 0.0]]
    far = attention_distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 5.0]]))
    assert far.item() == pytest.approx(math.sqrt(2) / 2)


def test_attention_transfer_is_the_paper_s(oracle: Any) -> None:
    own, other = drawn(4, 6, 3, 3), drawn(4, 2, 3, 3, seed=1)
    loss = oracle.ATLoss({}, mode="paper")
    expected = loss.compute_at_loss_paper(own, other) / 2
    found = attention_distance(attention_map(own).flatten(1), attention_map(other).flatten(1)).sum()
    assert torch.isclose(found, expected)


def test_equal_attention_has_a_slope() -> None:
    own = drawn(2, 3, 2, 2).requires_grad_()
    attention_distance(
        attention_map(own).flatten(1), attention_map(own.detach()).flatten(1)
    ).sum().backward()
    assert own.grad is not None
    assert own.grad.isfinite().all()


def test_distances_and_angles_by_hand() -> None:
    corner = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])  # sides 3, 4, 5
    expected = torch.tensor([[0, 0.75, 1.0], [0.75, 0, 1.25], [1.0, 1.25, 0]])
    assert torch.allclose(pairwise_distances(corner), expected, atol=1e-5)
    found = triplet_cosines(corner)
    assert found[0, 1, 2].item() == pytest.approx(0.0, abs=1e-6)  # right angle at the first
    assert found[1, 0, 2].item() == pytest.approx(3 / 5)


def test_relational_is_the_authors(oracle: Any) -> None:
    own, other = drawn(7, 5), drawn(7, 3, seed=1)
    loss = oracle.RKDLoss("", "", 1.0, 2.0, "mean")
    expected = loss.compute_rkd_distance_loss(other, own)
    expected = expected + 2 * loss.compute_rkd_angle_loss(other, own)
    assert torch.isclose(Relational("runs/a").between(own, other), expected)


def test_relations_outlive_turns_shifts_and_lengths() -> None:
    own = drawn(6, 4)
    turn = torch.linalg.qr(drawn(4, 4, seed=2)).Q
    found = Relational("runs/a").between(own, 3 * own @ turn + 1)
    assert found.item() == pytest.approx(0.0, abs=1e-9)


def test_equal_rows_have_relations_and_slopes() -> None:
    own = torch.ones(4, 3, requires_grad=True)
    Relational("runs/a").between(own, drawn(4, 3).float()).backward()  # type: ignore[no-untyped-call]  # torch's is not annotated
    assert own.grad is not None
    assert own.grad.isfinite().all()


def test_cka_is_one_for_a_turn_and_nought_on_average_for_others() -> None:
    own = drawn(40, 5)
    turn = torch.linalg.qr(drawn(5, 5, seed=2)).Q
    assert debiased_cka(own, 2 * own @ turn + 3).item() == pytest.approx(1.0)
    found = [debiased_cka(drawn(12, 8, seed=s), drawn(12, 8, seed=s + 999)) for s in range(200)]
    assert torch.stack(found).mean().abs() < 0.02  # the biased one is 0.4


def test_cka_by_the_definition() -> None:
    """The estimator of Song et al. 2012, term by term."""
    x, y = drawn(6, 3), drawn(6, 4, seed=1)

    def hsic(k: Tensor, m: Tensor) -> Tensor:
        n, one = len(k), torch.ones(len(k), dtype=torch.float64)
        k, m = k - k.diag().diag(), m - m.diag().diag()
        total = (k @ m).trace() + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
        return (total - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))

    k, m = x @ x.T, y @ y.T
    expected = hsic(k, m) / (hsic(k, k) * hsic(m, m)).sqrt()
    assert torch.isclose(debiased_cka(x, y), expected)


def test_collapsed_features_have_a_cka_and_a_slope() -> None:
    own = torch.ones(5, 3, requires_grad=True)
    debiased_cka(own, drawn(5, 3).float()).backward()  # type: ignore[no-untyped-call]  # torch's is not annotated
    assert own.grad is not None
    assert own.grad.isfinite().all()


def test_turned_by_hand() -> None:
    own, other = torch.tensor([[3.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.5, 0.0], [0.0, 2.0]])
    assert direction_distance(own, other).tolist() == pytest.approx([0.0, 2.0])
