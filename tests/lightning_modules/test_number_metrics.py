"""Errors of numbers far from zero, in parts, and on several processes."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from lightning_modules.tasks.depth import Depth
from lightning_modules.tasks.number_metrics import R2, joined_moments
from lightning_modules.tasks.ordinal import Ordinal
from lightning_modules.tasks.regression import Regression
from pollinate.errors import PollinateError


@pytest.mark.parametrize(("mean", "std"), [(0, 1), (1998, 11), (1e6, 1), (1.7e9, 3e4), (-3e5, 2)])
def test_scores_of_numbers_far_from_zero(mean: float, std: float) -> None:
    generator = torch.Generator().manual_seed(0)
    target = (mean + std * torch.randn(3000, generator=generator, dtype=torch.float64)).float()
    output = (mean + std * torch.randn(3000, generator=generator, dtype=torch.float64)).float()
    metrics = Regression().metrics()
    for start in range(0, 3000, 256):
        metrics.update(output[start : start + 256], target[start : start + 256])
    found = {name: value.item() for name, value in metrics.compute().items()}
    y, z = target.double(), output.double()
    assert found["r2"] == pytest.approx(r2_score(y, z), abs=1e-6)
    assert found["mae"] == pytest.approx(mean_absolute_error(y, z))
    assert found["rmse"] == pytest.approx(root_mean_squared_error(y, z))


def test_the_mean_of_a_far_target_explains_nothing() -> None:
    task = Regression()
    task.learn([1e6, 1e6 + 1, 1e6 + 2, 1e6 + 3])
    found = task.baseline(task.encode([1e6, 1e6 + 1, 1e6 + 2, 1e6 + 3]).targets)
    assert found["r2"] == pytest.approx(0, abs=1e-9)
    assert found["rmse"] == pytest.approx(1.25**0.5)


def test_moments_of_parts_are_those_of_all() -> None:
    values = torch.tensor([1e9, 1e9 + 1, 1e9 + 4, 1e9 + 9, 1e9 + 2], dtype=torch.float64)

    def moments(part: torch.Tensor) -> torch.Tensor:
        mean = part.mean()
        return torch.stack([part.new_tensor(float(len(part))), mean, ((part - mean) ** 2).sum()])

    parts = torch.stack([moments(values[:1]), torch.zeros(3).double(), moments(values[1:])])
    assert torch.allclose(joined_moments(parts), moments(values), rtol=1e-15)
    assert joined_moments(torch.zeros(2, 3).double()).tolist() == [0, 0, 0]


def test_several_processes_make_one_r2() -> None:
    generator = torch.Generator().manual_seed(1)
    output, target = 1e6 + torch.randn(2, 100, generator=generator, dtype=torch.float64)
    whole, parts = R2(), [R2(), R2()]
    whole.update(output, target)
    parts[0].update(output[:70], target[:70])
    parts[1].update(output[70:], target[70:])
    joined = R2()  # what torchmetrics does with the processes' states
    joined._update_count = 1
    joined.moments = joined_moments(torch.stack([part.moments for part in parts]))
    joined.squares = torch.stack([part.squares for part in parts]).sum(dim=0)
    assert joined.compute().item() == pytest.approx(whole.compute().item(), abs=1e-9)


@pytest.mark.parametrize(("answers", "score"), [([5, 5, 5], 1.0), ([5, 5, 6], 0.0)])
def test_r2_of_targets_that_are_all_the_same(answers: list[int], score: float) -> None:
    metric = R2()
    metric.update(torch.tensor(answers).float(), torch.full((3,), 5.0))
    assert metric.compute().item() == score


def test_r2_of_one_row_is_not_a_number() -> None:
    metric = R2()
    metric.update(torch.ones(1), torch.zeros(1))
    assert metric.compute().isnan()


def test_numbers_that_32_bits_cannot_tell_apart_are_refused() -> None:
    with pytest.raises(PollinateError, match=r"steps of 8 in training's 32 bits; subtract 1000000"):
        Regression().learn([1e8, 1e8 + 1, 1e8 + 2])
    maps = [
        torch.full((2, 2), 1e8 - 16).double().numpy(),
        torch.full((2, 2), 1e8 + 16).double().numpy(),
    ]
    with pytest.raises(PollinateError, match="subtract"):
        Depth().learn(maps)


def test_a_number_beyond_32_bits_is_refused() -> None:
    found = Regression().problems([1e39, 3.0], {})
    assert list(found) == [0]
    assert "32 bits" in found[0]


def test_errors_of_depth_count_measured_pixels_only() -> None:
    metrics = Depth(size=[1, 3]).metrics()
    far = 1e6
    metrics.update(torch.tensor([[[far + 2, far, 7.0]]]), torch.tensor([[[far, far, 0.0]]]))
    found = metrics.compute()
    assert found["abs"].item() == pytest.approx(1.0)
    assert found["rmse"].item() == pytest.approx(2**0.5)
    assert found["rel"].item() == pytest.approx(1e-6)


def test_kappa_of_thousands_of_places_by_hand() -> None:
    from sklearn.metrics import cohen_kappa_score

    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 5, (500,), generator=generator)
    output = (target + torch.randint(-1, 2, (500,), generator=generator)).clamp(0, 4)
    task = Ordinal(classes=5)
    metrics = task.metrics()
    metrics.update(output[:200], target[:200])
    metrics.update(output[200:], target[200:])
    expected = cohen_kappa_score(target, output, weights="quadratic")
    assert metrics.compute()["kappa"].item() == pytest.approx(expected)
    states = Ordinal(classes=5000).metrics()
    sizes = [getattr(m, name).numel() for m in states.values() for name in m._defaults]
    assert max(sizes) <= 5000
