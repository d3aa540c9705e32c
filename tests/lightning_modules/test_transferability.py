"""Scores against their papers' equations, written down naively."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from lightning_modules.transferability.base import Absent, Evidence, Score, UnavailableError
from lightning_modules.transferability.cka import LinearCKA, cka_score, linear_hsic
from lightning_modules.transferability.gradient_cosine import pairwise_cosines
from lightning_modules.transferability.h_score import HScore, h_score, ledoit_wolf
from lightning_modules.transferability.leep import leep
from lightning_modules.transferability.log_me import log_evidence
from lightning_modules.transferability.tag import lookahead_affinity
from pollinate.errors import UsageError
from tests.rows.groups import rows
from tests.rows.row import Row, ids


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(size: int) -> Tensor:
    return torch.linalg.qr(draw(size, size, seed=9))[0]


def classes(count: int, of: int = 3) -> Tensor:
    return torch.arange(count) % of


def tensors(given: Mapping[str, Any]) -> Evidence:
    kinds = {"classes": torch.int64}
    return Evidence(
        **{
            name: torch.tensor(value, dtype=kinds.get(name, torch.float64))
            if isinstance(value, list)
            else value
            for name, value in given.items()
        }
    )


@pytest.mark.parametrize("row", rows("score"), ids=ids)
def test_row(row: Row) -> None:
    score: Score = row.build()
    assert score.score(tensors(row.given)) == pytest.approx(row.expected, abs=1e-12)


@pytest.mark.parametrize("row", rows("score"), ids=ids)
def test_what_lacks_is_said(row: Row) -> None:
    score: Score = row.build()
    for name in row.given:
        evidence = tensors({**row.given, name: Absent("the dog ate it")})
        with pytest.raises(UnavailableError, match="the dog ate it"):
            score.score(evidence)


# LogME


def marginal(features: Tensor, y: Tensor, alpha: float, beta: float) -> float:
    """log N(y | 0, F F' / alpha + I / beta) / n: the evidence without any algebra."""
    n = len(y)
    covariance = features @ features.T / alpha + torch.eye(n, dtype=torch.float64) / beta
    zero = torch.zeros(n, dtype=torch.float64)
    return float(MultivariateNormal(zero, covariance).log_prob(y)) / n


@pytest.mark.parametrize(("n", "dim"), [(12, 3), (6, 10)])
def test_log_me_is_the_largest_evidence_on_a_grid(n: int, dim: int) -> None:
    features = draw(n, dim)
    y = features @ draw(dim, seed=1) + 0.8 * draw(n, seed=2)
    found = float(log_evidence(features, y[:, None]))
    grid = np.exp(np.linspace(-5, 4, 31))
    best = max(marginal(features, y, alpha, beta) for alpha in grid for beta in grid)
    assert best <= found + 1e-9
    assert found == pytest.approx(best, abs=0.02)


def test_log_me_is_where_the_papers_fixed_point_goes() -> None:
    features, n, dim = draw(30, 4), 30, 4
    y = features @ draw(4, seed=1) + 0.5 * draw(30, seed=2)
    alpha = beta = 1.0
    for _ in range(200):
        a = alpha * torch.eye(dim, dtype=torch.float64) + beta * features.T @ features
        m = beta * torch.linalg.solve(a, features.T @ y)
        s = torch.linalg.eigvalsh(features.T @ features)
        gamma = float((beta * s / (alpha + beta * s)).sum())
        alpha = gamma / float(m @ m)
        beta = (n - gamma) / float((features @ m - y).square().sum())
    expected = marginal(features, y, alpha, beta)
    assert float(log_evidence(features, y[:, None])) == pytest.approx(expected, abs=1e-9)


def test_log_me_changes_with_neither_unit_nor_rotation() -> None:
    features, labels = draw(40, 5), torch.nn.functional.one_hot(classes(40)).double()
    found = log_evidence(features, labels)
    torch.testing.assert_close(log_evidence(100 * features @ rotation(5), labels), found)
    torch.testing.assert_close(log_evidence(features.float(), labels), found, rtol=1e-5, atol=1e-5)


def test_log_me_prefers_features_that_explain() -> None:
    labels = draw(60, 1)
    good, bad = labels @ draw(1, 4, seed=1) + 0.1 * draw(60, 4, seed=2), draw(60, 4, seed=3)
    assert log_evidence(good, labels) > log_evidence(bad, labels) + 0.5


def test_log_me_of_labels_fitted_exactly_is_finite() -> None:
    features = draw(20, 3)
    assert log_evidence(features, features[:, :1]).isfinite().all()


# H-score


def test_h_score_is_its_definition() -> None:
    features, y, a = draw(50, 4), classes(50), 0.3
    rows = features - features.mean(dim=0)
    covariance = sum(torch.outer(x, x) for x in rows) / 50
    means = sum(
        (y == c).sum() / 50 * torch.outer(rows[y == c].mean(0), rows[y == c].mean(0))
        for c in range(3)
    )
    eye = torch.eye(4, dtype=torch.float64)
    shrunk = (1 - a) * covariance + a * covariance.trace() / 4 * eye
    expected = torch.trace(torch.linalg.inv(shrunk) @ ((1 - a) * means))
    assert h_score(rows, y, a) == pytest.approx(float(expected))
    assert h_score(rows @ rotation(4) * 7, y, a) == pytest.approx(float(expected))


@pytest.mark.parametrize(("n", "dim"), [(40, 6), (10, 30)])
def test_shrinkage_is_sklearns(n: int, dim: int) -> None:
    from sklearn import covariance  # here, as it takes half a second

    rows = draw(n, dim) * torch.linspace(0.1, 3, dim)
    rows -= rows.mean(dim=0)
    _, expected = covariance.ledoit_wolf(rows.numpy(), assume_centered=True)
    assert ledoit_wolf(rows) == pytest.approx(expected)


def test_h_score_without_shrinkage_takes_features_that_repeat() -> None:
    features, y = draw(30, 2), classes(30)
    once = HScore(0.0).score(Evidence(features=features, classes=y))
    twice = HScore(0.0).score(Evidence(features=features.repeat(1, 2), classes=y))
    assert twice == pytest.approx(once)


def test_h_score_refuses() -> None:
    with pytest.raises(UnavailableError, match="the same features"):
        HScore().score(Evidence(features=torch.ones(5, 2), classes=classes(5)))
    with pytest.raises(UsageError, match=r"shrinkage must be in \[0, 1\] or null, got 2"):
        HScore(2.0)


# LEEP


def test_leep_is_its_loops() -> None:
    said, y = draw(20, 4).softmax(dim=1), classes(20)
    n, total = 20, 0.0
    joint = [
        [sum(float(said[i, z]) for i in range(n) if y[i] == c) / n for z in range(4)]
        for c in range(3)
    ]
    for i in range(n):
        total += math.log(
            sum(
                joint[int(y[i])][z] / sum(joint[c][z] for c in range(3)) * float(said[i, z])
                for z in range(4)
            )
        )
    assert leep(said, y) == pytest.approx(total / n)


def test_leep_of_the_right_classes_is_zero_whatever_they_are_called() -> None:
    said = torch.nn.functional.one_hot((classes(9) + 1) % 3, 5).double()
    assert leep(said, classes(9)) == pytest.approx(0.0)
    assert leep(said, 10 * classes(9)) == pytest.approx(0.0)


# CKA


def naive_hsic(x: Tensor, y: Tensor) -> float:
    """Song et al. 2012, by matrices (N, N)."""
    n = len(x)
    k, m = x @ x.T, y @ y.T
    k.fill_diagonal_(0)
    m.fill_diagonal_(0)
    first = torch.trace(k @ m) + k.sum() * m.sum() / ((n - 1) * (n - 2))
    return float((first - 2 / (n - 2) * (k @ m).sum()) / (n * (n - 3)))


def test_hsic_is_its_definition_and_blind_to_the_mean() -> None:
    x, y = draw(15, 3), draw(15, 4, seed=1) + 5
    assert linear_hsic(x, y) == pytest.approx(naive_hsic(x, y))
    assert linear_hsic(x, y - y.mean(dim=0)) == pytest.approx(linear_hsic(x, y))


def test_cka_identities() -> None:
    x, y = draw(30, 5), draw(30, 3, seed=1) + draw(30, 5)[:, :3]
    assert cka_score(x, x) == pytest.approx(1.0)
    assert cka_score(x, y) == pytest.approx(cka_score(y, x))
    assert cka_score(4 * x @ rotation(5), y + 1) == pytest.approx(cka_score(x, y))


def test_cka_of_unrelated_features_is_zero_on_average_however_wide() -> None:
    found = [
        cka_score(draw(20, 60, seed=seed), draw(20, 60, seed=1000 + seed)) for seed in range(200)
    ]
    error = torch.tensor(found).std() / len(found) ** 0.5
    assert abs(sum(found) / len(found)) < 3 * float(error)


def test_cka_refuses() -> None:
    with pytest.raises(UnavailableError, match="needs >= 4 labelled rows, got 3"):
        LinearCKA().score(Evidence(features=draw(3, 2), reference=draw(3, 2)))
    with pytest.raises(UnavailableError, match="hardly differ"):
        cka_score(torch.ones(5, 2), draw(5, 2))


# between tasks


def test_lookahead_affinity_is_its_equation() -> None:
    found = lookahead_affinity(torch.tensor([2.0, 4.0]), torch.tensor([[1.0, 5.0], [2.0, 2.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.5, -0.25], [0.0, 0.5]]))


def test_a_loss_of_zero_has_nothing_to_gain() -> None:
    found = lookahead_affinity(torch.tensor([0.0, 1.0]), torch.tensor([[0.0, 1.0], [0.3, 0.5]]))
    assert found[:, 0].tolist() == [0.0, 0.0]


def test_cosines_of_opposed_equal_and_empty_gradients() -> None:
    found = pairwise_cosines(torch.tensor([[1.0, 1.0], [-2.0, -2.0], [1.0, -1.0], [0.0, 0.0]]))
    expected = torch.tensor([[1.0, -1, 0, 0], [-1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(found, expected.double())
