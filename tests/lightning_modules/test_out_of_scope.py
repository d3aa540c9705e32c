"""Scores of rows out of scope, and the choice among them."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional

import pollinate as po
from lightning_modules.out_of_scope.base import OutOfScopeScore, ScopeRows, area_under_roc
from lightning_modules.out_of_scope.choice import SCORES, choose_score

CLASSES, WIDTH = 8, 12


def rows_of_classes(spread: float, told: float, seed: int = 0) -> ScopeRows:
    """Features about a centre of each class, with ``spread``, and logits ``told`` times its."""
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.eye(CLASSES, WIDTH)
    classes = torch.arange(CLASSES).repeat(40)
    features = centres[classes] + spread * torch.randn(len(classes), WIDTH, generator=generator)
    noise = torch.randn(len(classes), CLASSES, generator=generator)
    return ScopeRows(features, told * functional.one_hot(classes, CLASSES) + noise, classes)


@pytest.mark.parametrize("name", list(SCORES))
def test_a_strange_row_scores_higher(name: str) -> None:
    rows = rows_of_classes(0.3, 8.0)
    score: OutOfScopeScore = SCORES[name]().fit(rows)
    strange = ScopeRows(-torch.ones(1, WIDTH), torch.zeros(1, CLASSES))
    assert score(strange) > score(rows).quantile(0.99)
    copy = SCORES[name]().load(score.state())
    assert torch.equal(copy(strange), score(strange))


def test_the_score_is_chosen_that_tells_unknown_classes() -> None:
    assert next(iter(choose_score(rows_of_classes(4.0, 5.0)))) == "energy"
    assert next(iter(choose_score(rows_of_classes(0.2, 0.0)))) != "energy"


def test_without_classes_or_features_the_first_that_can_is_taken() -> None:
    features = torch.randn(50, WIDTH)
    assert list(choose_score(ScopeRows(features, None))) == ["nearest_rows"]
    assert list(choose_score(ScopeRows(None, torch.randn(50, 3)))) == ["energy"]
    assert choose_score(ScopeRows(None, None)) == {}
    # of an ensemble's ordered classes neither features nor logits are known
    assert choose_score(ScopeRows(None, None, torch.arange(5).repeat(20))) == {}


def test_the_area_is_scikit_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    inside = torch.randn(200, generator=generator).round(decimals=1)
    outside = (torch.randn(150, generator=generator) + 0.5).round(decimals=1)
    label = [0] * 200 + [1] * 150
    expected = roc_auc_score(label, torch.cat([inside, outside]).numpy())
    assert area_under_roc(inside, outside) == pytest.approx(expected)


def test_parts_of_uncertainty_add_up() -> None:
    generator = torch.Generator().manual_seed(0)
    normal = [
        torch.distributions.Normal(torch.randn(20, generator=generator), torch.ones(20))
        for _ in range(5)
    ]
    flags = [
        torch.distributions.Bernoulli(logits=torch.randn(20, 3, generator=generator))
        for _ in range(5)
    ]
    for models in (normal, flags):
        found = po.calibration.UncertaintyParts.of(models)
        assert torch.allclose(found.total, found.aleatoric + found.epistemic)
        assert (found.epistemic > 0).all()
        alone = po.calibration.UncertaintyParts.of(models[:1])
        assert alone.epistemic.abs().max() < 1e-9
