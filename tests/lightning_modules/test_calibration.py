"""Calibrators and the measures of calibration, against hand-made rows and other libraries."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import norm
from torch.distributions import Bernoulli, Categorical, Normal
from torchmetrics.functional.classification import multiclass_calibration_error

import pollinate as po
from lightning_modules.calibration.base import choose, folds_of, held_out
from lightning_modules.calibration.reliability import calibration_scores
from lightning_modules.calibration.variance_scaling import normal_crps
from lightning_modules.golden_section import golden_section
from pollinate.errors import UsageError
from tests.lightning_modules.calibration_rows import (
    logits_and_classes,
    logits_and_flags,
    numbers,
)


def test_golden_section_finds_several_minima() -> None:
    wanted = torch.tensor([-1.0, 0.25, 3.0], dtype=torch.float64)
    found = golden_section(lambda x: (x - wanted).square(), -4, 4, 1e-6, 3)
    assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_temperature_is_what_made_the_logits_sharp(sharpness: float) -> None:
    logits, target = logits_and_classes(20_000, 5, sharpness)
    calibrator = po.calibration.Temperature().fit(logits, target)
    assert calibrator.temperature.item() == pytest.approx(sharpness, rel=0.05)
    assert torch.equal(calibrator(logits).argmax(dim=1), logits.argmax(dim=1))


def test_temperature_stays_finite_where_all_rows_are_right() -> None:
    calibrator = po.calibration.Temperature().fit(torch.eye(4) * 5, torch.arange(4))
    assert 0.1 < calibrator.temperature.item() < 1


def test_each_label_has_its_temperature() -> None:
    sharpness = torch.tensor([0.5, 1.0, 4.0])
    logits, target = logits_and_flags(20_000, sharpness)
    calibrator = po.calibration.LabelTemperatures().fit(logits, target)
    assert torch.allclose(calibrator.temperature, sharpness, rtol=0.06)
    assert torch.equal(calibrator(logits) > 0, logits > 0)


def test_vector_scaling_finds_factors_and_shifts() -> None:
    logits, target = logits_and_classes(20_000, 3, 1.0)
    moved = logits * torch.tensor([2.0, 1.0, 0.5]) + torch.tensor([1.0, 0.0, -1.0])
    before = torch.nn.functional.cross_entropy(logits, target)
    after = torch.nn.functional.cross_entropy(
        po.calibration.VectorScaling().fit(moved, target)(moved), target
    )
    assert after < before + 0.005


def test_threshold_shifts_find_a_factor_and_shifts() -> None:
    task = po.tasks.Ordinal(classes=4)
    generator = torch.Generator().manual_seed(0)
    place = 2 * torch.randn(6000, 1, generator=generator)
    right = place - torch.tensor([-1.5, 0.5, 1.0])
    target = task.class_probabilities(right).multinomial(1, generator=generator).squeeze(1)
    moved = 2 * right + torch.tensor([1.0, 0.0, -1.0])
    calibrator = po.calibration.ThresholdShifts(task.surprise).fit(moved, target)
    assert calibrator.weight.item() == pytest.approx(0.5, rel=0.08)
    assert torch.allclose(calibrator.bias, torch.tensor([-0.5, 0.0, 0.5]), atol=0.1)
    assert choose(task.calibrators(), task.surprise, moved[:1000], target[:1000]) == "shifts"
    assert choose(task.calibrators(), task.surprise, right[:1000], target[:1000]) == "temperature"


def test_answers_and_their_confidence_stay_those_of_the_raw_outputs() -> None:
    task = po.tasks.Ordinal(classes=3)
    logits, shifted = torch.tensor([[2.0, -1.0]]), torch.tensor([[-2.0, -3.0]])
    (answer,) = task.decode_calibrated(logits, shifted)
    assert answer["label"] == "1"  # though the lowest class is the likeliest now
    expected = shifted[0, 0].sigmoid() - shifted[0, 1].sigmoid()
    assert answer["probability"] == pytest.approx(expected.item(), abs=1e-6)
    assert torch.allclose(task.confidence(logits, shifted), expected)


def test_variance_scaling_makes_standard_residuals() -> None:
    mean, scale, target = numbers(5000)
    output = torch.stack([mean, (scale / 3).log()], dim=1)
    found = po.calibration.VarianceScaling().fit(output, target)(output)
    assert torch.equal(found[:, 0], mean)
    assert ((target - mean) / found[:, 1].exp()).square().mean() == pytest.approx(1, rel=1e-4)


def test_the_simplest_calibrator_is_taken_unless_another_is_surely_better() -> None:
    task = po.tasks.Classification(classes=3)
    logits, target = logits_and_classes(3000, 3, 2.0)
    assert choose(task.calibrators(), task.surprise, logits, target) == "temperature"
    shifted = logits + torch.tensor([3.0, 0.0, -3.0])
    assert choose(task.calibrators(), task.surprise, shifted, target) == "vector"
    assert choose(task.calibrators(), task.surprise, shifted[:5], target[:5]) == "temperature"


def test_a_row_is_held_out_of_its_calibrator() -> None:
    mean, _, target = numbers(50)
    fold = folds_of(50)
    found = held_out(po.calibration.VarianceScaling, mean, target, fold)
    own = fold == 3
    others = po.calibration.VarianceScaling().fit(mean[~own], target[~own])
    assert torch.equal(found[own], others(mean[own]))


def test_expected_calibration_error_is_torchmetrics() -> None:
    logits, target = logits_and_classes(2000, 4, 2.5)
    probs = logits.softmax(dim=1)
    expected = multiclass_calibration_error(probs, target, 4, n_bins=15, norm="l1")
    found = calibration_scores(Categorical(logits=logits), target)
    assert found["ece"] == pytest.approx(expected.item(), abs=1e-4)
    wanted = torch.nn.functional.one_hot(target, 4)
    assert found["brier"] == pytest.approx((probs - wanted).square().sum(1).mean().item())
    nll = torch.nn.functional.cross_entropy(logits, target).item()
    assert found["nll"] == pytest.approx(nll, rel=1e-5)


def test_debiasing_takes_away_what_chance_adds() -> None:
    plain, debiased = [], []
    for seed in range(40):  # perfectly calibrated, and few
        logits, target = logits_and_classes(150, 3, 1.0, seed)
        found = calibration_scores(Categorical(logits=logits), target)
        plain.append(found["ece"])
        debiased.append(found["ece_debiased"])
    assert sum(debiased) < 0.7 * sum(plain)


def test_scores_of_numbers() -> None:
    mean, scale, target = numbers(4000)
    good = calibration_scores(Normal(mean, scale), target)
    bad = calibration_scores(Normal(mean, scale / 4), target)
    assert good["ece"] < 0.02 < 0.2 < bad["ece"]
    assert good["crps"] < bad["crps"]
    assert good["nll"] == pytest.approx(-norm(mean, scale).logpdf(target).mean(), rel=1e-5)


def test_crps_is_the_integral_of_squared_differences() -> None:
    points = torch.linspace(-30, 30, 600_001, dtype=torch.float64)
    mean, scale, target = 0.7, 1.3, -0.4
    below = Normal(mean, scale).cdf(points)
    gap = (below - (points >= target).double()).square()
    integral = torch.trapezoid(gap, points).item()
    found = normal_crps(*(torch.tensor([v], dtype=torch.float64) for v in (mean, scale, target)))
    assert found.item() == pytest.approx(integral, rel=1e-4)


def test_labels_are_calibrated_one_by_one() -> None:
    logits, target = logits_and_flags(4000, torch.tensor([1.0, 1.0]))
    found = calibration_scores(Bernoulli(logits=logits), target)
    assert found["ece"] < 0.02
    assert calibration_scores(Bernoulli(logits=3 * logits), target)["ece"] > 0.05


def test_risk_falls_with_coverage_and_thresholds_hold() -> None:
    generator = torch.Generator().manual_seed(0)
    sure = torch.rand(4000, generator=generator)
    wrong = (torch.rand(4000, generator=generator) > sure).float()
    curve = po.calibration.RiskCoverage().fit(sure, wrong)
    assert curve.risk_at(0.2) < curve.risk_at(0.6) < curve.risk_at(1.0)
    limit = curve.threshold_of_risk(0.2)
    new = torch.rand(20_000, generator=generator)
    fails = (torch.rand(20_000, generator=generator) > new)[new >= limit]
    assert fails.double().mean() <= 0.2
    assert (sure >= curve.threshold_of_coverage(0.3)).double().mean() == pytest.approx(
        0.3, abs=1e-3
    )


def test_no_risk_can_be_asked_of_numbers_or_shown_by_few_rows() -> None:
    few = po.calibration.RiskCoverage().fit(torch.rand(5), torch.zeros(5))
    assert few.threshold_of_risk(0.01) == math.inf
    numbers_off = po.calibration.RiskCoverage().fit(torch.rand(5), 10 * torch.ones(5))
    with pytest.raises(UsageError, match="errors are numbers; choose a coverage"):
        numbers_off.threshold_of_risk(0.1)
