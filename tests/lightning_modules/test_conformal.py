"""Sets and intervals: the guarantee, by simulation, and what holds where rows are few."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import pollinate as po
from lightning_modules.conformal.base import ConformalPredictor, conformal_quantile, rows_needed
from lightning_modules.conformal.class_sets import row_uniform
from lightning_modules.conformal.drift import drift_distance, kolmogorov_smirnov
from pollinate.errors import UsageError
from tests.lightning_modules.calibration_rows import (
    logits_and_classes,
    logits_and_flags,
    numbers,
)

NAMES = ["a", "b", "c", "d", "e"]


def class_rows(seed: int) -> tuple[Tensor, Tensor]:
    return logits_and_classes(3000, 5, 2.0, seed)


def flag_rows(seed: int) -> tuple[Tensor, Tensor]:
    return logits_and_flags(3000, torch.ones(5), seed)


def number_rows(seed: int) -> tuple[Tensor, Tensor]:
    mean, scale, target = numbers(3000, seed)
    return torch.stack([mean, scale.log()], dim=1), target


def quantile_rows(seed: int) -> tuple[Tensor, Tensor]:
    mean, scale, target = numbers(3000, seed)
    return torch.stack([mean - scale, mean, mean + scale], dim=1), target


KINDS: list[tuple[Callable[[], ConformalPredictor], Callable[[int], tuple[Tensor, Tensor]]]] = [
    (lambda: po.conformal.ClassSets(NAMES, empty=True), class_rows),
    (lambda: po.conformal.OrdinalSets(NAMES, empty=True), class_rows),
    (lambda: po.conformal.LabelSets(NAMES), flag_rows),
    (po.conformal.ScaledIntervals, number_rows),
    (po.conformal.QuantileIntervals, quantile_rows),
]


@pytest.mark.parametrize(("make", "rows"), KINDS)
@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_the_truth_is_inside_as_often_as_asked(
    make: Callable[[], ConformalPredictor],
    rows: Callable[[int], tuple[Tensor, Tensor]],
    coverage: float,
) -> None:
    reached = []
    for seed in range(4):
        output, target = rows(seed)
        fitted = make().fit(output[:1500], target[:1500])
        reached.append(fitted.reached(output[1500:], target[1500:], coverage).coverage)
    assert sum(reached) / len(reached) == pytest.approx(coverage, abs=0.02)


def test_a_set_that_may_not_be_empty_holds_the_likeliest_class() -> None:
    output, target = class_rows(0)
    sets = po.conformal.ClassSets(NAMES).fit(output, target)
    found = sets.sets(output, 0.5)
    assert found.gather(1, output.argmax(dim=1, keepdim=True)).all()
    assert sets.answers(output[:3], 0.9)[0]["set"][0] == NAMES[int(output[0].argmax())]


def test_ranges_have_no_gaps() -> None:
    output, target = class_rows(1)
    ranges = po.conformal.OrdinalSets(NAMES).fit(output, target)
    for per_class in (False, True):
        inside = ranges.sets(output, 0.8, per_class).int()
        edges = (inside[:, 1:] - inside[:, :-1]).clamp(min=0).sum(dim=1) + inside[:, 0]
        assert (edges == 1).all()


def test_each_class_is_covered_where_it_is_asked() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.multinomial(torch.tensor([0.9, 0.1]), 6000, True, generator=generator)
    logits = torch.randn(6000, 2, generator=generator)
    logits[:, 0] += 1.5  # the rare class is overlooked
    sets = po.conformal.ClassSets(["usual", "rare"], empty=True).fit(logits[:3000], target[:3000])
    rare = target[3000:] == 1
    rows, own = logits[3000:][rare], target[3000:][rare]
    assert sets.reached(rows, own, 0.9).coverage < 0.8
    assert sets.reached(rows, own, 0.9, per_class=True).coverage == pytest.approx(0.9, abs=0.04)


def test_the_quantile_has_the_finite_sample_correction() -> None:
    scores = torch.arange(1.0, 20.0)  # n = 19: ceil(20 x .9) = 18
    assert conformal_quantile(scores, torch.ones(19), 0.9) == 18.0
    assert conformal_quantile(scores, torch.ones(19), 0.96) == math.inf
    assert [rows_needed(c) for c in (0.8, 0.9, 0.95, 0.99)] == [4, 9, 19, 99]
    with pytest.raises(UsageError, match=r"coverage must be in \(0, 1\)"):
        rows_needed(1.0)


def test_too_few_rows_leave_nothing_out_and_it_is_said() -> None:
    output, target = class_rows(0)
    sets = po.conformal.ClassSets(NAMES).fit(output[:5], target[:5])
    assert sets.sets(output, 0.9).all()
    assert "needs 9 calibration rows, there are 5" in sets.shortage(0.9)
    assert "ask for one up to 0.833" in sets.shortage(0.9)
    assert sets.shortage(0.8) == ""
    intervals = po.conformal.ScaledIntervals().fit(torch.zeros(3), torch.ones(3))
    assert intervals.answers(torch.zeros(1), 0.9) == [{"low": -math.inf, "high": math.inf}]


def test_a_class_without_calibration_rows_is_named() -> None:
    output, target = class_rows(0)
    own = target != 4
    sets = po.conformal.ClassSets(NAMES).fit(output[own], target[own])
    assert "e have fewer" in sets.shortage(0.9, per_class=True)
    assert sets.class_thresholds(0.9)[4] == pytest.approx(sets.threshold(0.9))


def test_a_row_has_one_draw_whatever_is_beside_it() -> None:
    logits = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    drawn = row_uniform(logits)
    assert torch.equal(drawn[50:60], row_uniform(logits[50:60]))
    assert kolmogorov_smirnov(drawn, torch.linspace(0, 1, 200))[1] > 0.01


def test_state_is_all_there_is() -> None:
    for make, rows in KINDS:
        output, target = rows(0)
        fitted = make().fit(output, target)
        copy = make().load(fitted.state())
        assert copy.answers(output[:20], 0.9) == fitted.answers(output[:20], 0.9)


def test_drift_is_noticed_and_chance_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    known = torch.randn(500, generator=generator)
    assert drift_distance(known, torch.randn(300, generator=generator)) is None
    assert drift_distance(known, torch.randn(300, generator=generator) + 1) is not None
    assert drift_distance(known, torch.full((10,), 9.0)) is None


def test_the_distance_is_scipys() -> None:
    from scipy.stats import ks_2samp

    generator = torch.Generator().manual_seed(1)
    one, other = torch.randn(400, generator=generator), torch.randn(300, generator=generator) + 0.2
    found = ks_2samp(one.numpy(), other.numpy(), method="asymp")
    distance, chance = kolmogorov_smirnov(one, other)
    assert distance == pytest.approx(found.statistic)
    assert chance == pytest.approx(found.pvalue, rel=0.2)


class Softmax:
    """A classifier of scikit-learn's kind, whose inputs are logits."""

    def __init__(self, classes: int) -> None:
        self.classes_ = list(range(classes))
        self.fitted_ = True

    def fit(self, rows: object, target: object) -> Softmax:
        return self

    def predict_proba(self, rows: Any) -> Any:
        return torch.as_tensor(rows).softmax(dim=1).numpy()

    def predict(self, rows: Any) -> Any:
        return self.predict_proba(rows).argmax(axis=1)


@pytest.mark.filterwarnings("ignore")  # of another library
def test_sets_are_not_larger_than_mapies() -> None:
    pytest.importorskip("mapie", reason="needs mapie")
    import numpy as np
    from mapie.classification import SplitConformalClassifier
    from mapie.conformity_scores import RAPSConformityScore
    from sklearn.base import BaseEstimator, ClassifierMixin

    kind = type("Estimator", (Softmax, ClassifierMixin, BaseEstimator), {})
    output, target = logits_and_classes(4000, 10, 1.0, 3)
    other = SplitConformalClassifier(
        kind(10), 0.9, RAPSConformityScore(size_raps=0.2), prefit=True, random_state=0
    )
    other.conformalize(output[:2000].numpy(), target[:2000].numpy())
    _, found = other.predict_set(
        output[2000:].numpy(), conformity_score_params={"include_last_label": "randomized"}
    )
    theirs = found[:, :, 0]
    inside = theirs[np.arange(2000), target[2000:].numpy()].mean()
    sets = po.conformal.ClassSets([str(n) for n in range(10)], empty=True)
    reached = sets.fit(output[:2000], target[:2000]).reached(output[2000:], target[2000:], 0.9)
    assert reached.coverage == pytest.approx(0.9, abs=0.02)
    assert inside == pytest.approx(0.9, abs=0.03)
    assert reached.size <= 1.02 * theirs.sum(axis=1).mean()
