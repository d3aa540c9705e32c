"""Areas under curves: exact of few rows, near of many, the same in any parts."""

from __future__ import annotations

from typing import TypeVar

import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from lightning_modules.metrics import load_metric_state, metric_state
from lightning_modules.tasks.classification import Classification
from lightning_modules.tasks.multilabel import Multilabel
from lightning_modules.tasks.ranking_metrics import (
    AUROC,
    FEWEST,
    MeanAveragePrecision,
    RankedScores,
    side_by_side,
)

Scores = TypeVar("Scores", bound=RankedScores)


def drawn(count: int, rate: float, labels: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = (torch.rand(count, labels, generator=generator) < rate).long()
    target[:2] = torch.tensor([[0], [1]])
    return torch.randn(count, labels, generator=generator) * 0.8 + 2 * target - 7, target


def with_room(metric: Scores, room: int) -> Scores:
    metric.room = room
    metric.entries = metric.entries[:, :, :room].clone()
    return metric


def test_area_of_a_rare_class_is_exact() -> None:
    scores, target = drawn(4000, 0.002)
    metrics = Classification(classes=2).metrics()
    logits = torch.stack([torch.zeros(len(scores)), scores[:, 0]], dim=1)
    for start in range(0, len(scores), 256):
        metrics.update(logits[start : start + 256], target[start : start + 256, 0])
    expected = roc_auc_score(target[:, 0], scores[:, 0])
    assert metrics.compute()["auroc"].item() == pytest.approx(expected, abs=1e-9)


def test_sure_answers_are_not_all_the_same() -> None:
    task = Multilabel(classes=2)
    task.classes = ["a", "b"]
    output = torch.tensor([[20.0, 20.0], [25.0, 25.0], [22.0, 22.0]])
    metrics = task.metrics()
    metrics.update(task.metric_input(output), torch.tensor([[0, 0], [1, 1], [1, 1]]))
    assert metrics.compute()["map"].item() == 1.0


@pytest.mark.parametrize("rate", [0.002, 0.02, 0.3])
def test_mean_average_precision_of_few_rows_is_exact(rate: float) -> None:
    scores, target = drawn(3000, rate)
    metric = MeanAveragePrecision(2)
    metric.update(scores, target)
    expected = average_precision_score(target, scores, average="macro")
    assert metric.compute().item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("rate", [0.002, 0.02, 0.3])
@pytest.mark.parametrize("ordered", [False, True])
def test_areas_of_more_rows_than_there_is_room_for(rate: float, ordered: bool) -> None:
    scores, target = drawn(30_000, rate, labels=1)
    if ordered:
        order = scores[:, 0].argsort()
        scores, target = scores[order], target[order]
    metric, area = with_room(MeanAveragePrecision(1), FEWEST), with_room(AUROC(), FEWEST)
    for start in range(0, len(scores), 512):
        metric.update(scores[start : start + 512], target[start : start + 512])
        area.update(scores[start : start + 512, 0], target[start : start + 512, 0])
    expected = average_precision_score(target, scores)
    assert metric.compute().item() == pytest.approx(expected, abs=0.002)
    assert area.compute().item() == pytest.approx(roc_auc_score(target, scores), abs=0.002)
    assert metric.entries.shape[2] == FEWEST


def test_one_answer_for_all_has_the_share_of_the_label() -> None:
    target = drawn(5000, 0.1, labels=1)[1]
    metric, area = with_room(MeanAveragePrecision(1), FEWEST), with_room(AUROC(), FEWEST)
    metric.update(torch.full((5000, 1), 0.5), target)
    area.update(torch.full((5000,), 0.5), target[:, 0])
    assert metric.compute().item() == pytest.approx(target.double().mean().item())
    assert area.compute().item() == pytest.approx(0.5)


def test_several_processes_make_one_score() -> None:
    scores, target = drawn(1000, 0.05)
    whole, first, second = (with_room(MeanAveragePrecision(2), FEWEST) for _ in range(3))
    whole.update(scores, target)
    first.update(scores[:300], target[:300])
    second.update(scores[300:], target[300:])
    expected = whole.compute().item()
    whole.entries = side_by_side(torch.stack([first.entries, second.entries]))
    whole._computed = None
    assert whole.compute().item() == pytest.approx(expected, abs=1e-12)


def test_labels_that_no_row_has_are_left_out() -> None:
    metric = MeanAveragePrecision(2)
    metric.update(torch.tensor([[0.9, 0.1], [0.2, 0.3]]), torch.tensor([[1, 0], [0, 0]]))
    assert metric.compute().item() == 1.0
    area = AUROC()
    area.update(torch.rand(3), torch.ones(3))
    assert area.compute().isnan()


def test_an_unfinished_score_goes_on() -> None:
    scores, target = drawn(3000, 0.05)
    metric, other = (with_room(MeanAveragePrecision(2), FEWEST) for _ in range(2))
    metric.update(scores[:1500], target[:1500])
    load_metric_state(other, metric_state(metric))
    for one in (metric, other):
        one.update(scores[1500:], target[1500:])
    assert torch.equal(metric.compute(), other.compute())
