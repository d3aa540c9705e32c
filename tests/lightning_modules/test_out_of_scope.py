"""Scores of rows out of scope, and the choice among them."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional

import pollinate as po
from lightning_modules.out_of_scope.base import OutOfScopeScore, ScopeRows, area_under_roc
from lightning_modules.out_of_scope.choice import SCORES, choose_score
from lightning_modules.trust.row_scope import RowScope, row_scopes
from lightning_modules.trust.task_trust import AnsweredRows, TaskTrust, scope_folds, with_scope

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


def test_tasks_together_tell_more_than_each() -> None:
    generator = torch.Generator().manual_seed(0)
    usual = torch.randn(2000, 3, generator=generator) * torch.tensor([1.0, 10.0, 0.1]) + 5
    scope = RowScope(("a", "b", "c"), usual[:1000])
    strange = usual + torch.tensor([1.0, 10.0, 0.1])  # by one standard deviation each

    def marked(rows: Tensor, tasks: list[str]) -> float:
        scores = {name: rows[:, "abc".index(name)] for name in tasks}
        return (scope.joined(scores) > scope.limit(tasks, 0.1)).double().mean().item()

    assert marked(usual[1000:], ["a", "b", "c"]) == pytest.approx(0.1, abs=0.03)
    assert marked(usual[1000:], ["c", "a"]) == pytest.approx(0.1, abs=0.03)
    alone, two = marked(strange[1000:], ["b"]), marked(strange[1000:], ["b", "c"])
    assert alone + 0.1 < two < marked(strange[1000:], ["a", "b", "c"]) - 0.05


def test_rows_of_several_tasks_are_found_by_their_numbers() -> None:
    known = rows_of_classes(0.5, 5.0)
    assert known.classes is not None
    task = po.tasks.Classification(classes=CLASSES)
    count = len(known.classes)
    some = torch.arange(count) % 3 != 0  # the second task lacks labels of a third
    parts = {
        "all": AnsweredRows(
            known.logits, known.classes, known.features, {"x": torch.arange(count)}
        ),
        "some": AnsweredRows(
            known.logits[some],
            known.classes[some],
            known.features[some],
            {"x": torch.arange(count)[some]},
        ),
    }
    trust = {name: with_scope(task, TaskTrust(), rows) for name, rows in parts.items()}
    found = row_scopes(dict.fromkeys(parts, task), trust, parts)["x"]
    assert found.tasks == ("all", "some")
    left_out = int((scope_folds(parts["some"]) == 0).sum())
    assert trust["all"].scope_name == "energy_and_distance"  # which is fitted
    assert found.scores.shape == (left_out, 2)
    assert row_scopes({"all": task}, {"all": trust["all"]}, parts) == {}


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
