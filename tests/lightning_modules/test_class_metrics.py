"""Counts of classes: against scikit-learn, and in memory that is linear in the classes."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score

from lightning_modules.tasks.class_metrics import (
    PAIRS_PER_CLASS,
    Confusions,
    FrequentConfusions,
    MacroF1,
    MeanIoU,
    joined_tables,
    most_frequent,
)
from lightning_modules.tasks.classification import Classification
from lightning_modules.tasks.segmentation import Segmentation


def rows(classes: int, count: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(classes)
    target = torch.randint(0, classes, (count,), generator=generator)
    wrong = torch.rand(count, generator=generator) < 0.3
    return torch.where(wrong, (target + 1) % classes, target), target


def test_f1_and_iou_against_scikit_learn() -> None:
    answers, target = rows(7)
    f1, iou = MacroF1(9), MeanIoU(9)  # two classes that neither are there nor were answered
    for metric in (f1, iou):
        metric.update(answers[:100], target[:100])
        metric.update(answers[100:], target[100:])
    assert f1.compute().item() == pytest.approx(f1_score(target, answers, average="macro"))
    assert iou.compute().item() == pytest.approx(jaccard_score(target, answers, average="macro"))


def test_pixels_without_a_label_do_not_count() -> None:
    metrics = Segmentation(classes=3, size=[1, 3]).metrics()
    metrics.update(torch.tensor([[[0, 1, 2]]]), torch.tensor([[[0, 2, -1]]]))
    found = metrics.compute()
    assert found["miou"].item() == pytest.approx(1 / 3)
    assert found["pixel_accuracy"].item() == pytest.approx(0.5)
    assert found["confusion"].sum() == 2


def test_many_classes_take_memory_by_class() -> None:
    classes = 3000
    metrics = Classification(classes=classes).metrics()
    answers, target = rows(classes)
    logits = torch.zeros(len(answers), classes).scatter_(1, answers[:, None], 1.0)
    metrics.update(logits, target)
    sizes = [getattr(m, name).numel() for m in metrics.values() for name in m._defaults]
    assert max(sizes) <= 3 * PAIRS_PER_CLASS * classes
    found = metrics.compute()
    assert found["accuracy"].item() == pytest.approx((answers == target).double().mean().item())
    confusions = found["confusion"]
    assert isinstance(confusions, Confusions)
    assert confusions.missed == 0
    assert torch.equal(confusions.wanted, torch.bincount(target, minlength=classes))
    assert confusions.pairs[:, 2].sum() == (answers != target).sum()
    true, predicted, _ = confusions.pairs.T
    assert torch.equal((true + 1) % classes, predicted)


def test_confusions_are_those_of_the_matrix() -> None:
    answers, target = rows(5)
    matrix = torch.bincount(target * 5 + answers, minlength=25).view(5, 5)
    metric = FrequentConfusions(5)
    metric.update(answers[:50], target[:50])
    metric.update(answers[50:], target[50:])
    for one, other in zip(metric.compute(), Confusions.of_matrix(matrix), strict=True):
        assert torch.equal(one.sort(dim=0).values if one.ndim else one, other.sort(dim=0).values)


def test_frequent_keys_stay_and_what_is_missed_is_known() -> None:
    generator = torch.Generator().manual_seed(0)
    keys = torch.cat([torch.randint(10, 5000, (3000,), generator=generator), torch.full((400,), 3)])
    keys = keys[torch.randperm(len(keys), generator=generator)]
    table = torch.zeros(1 + 20, 2, dtype=torch.int64)
    for part in keys.split(64):
        found = most_frequent(
            torch.cat([table[1:, 0], part]), torch.cat([table[1:, 1], torch.ones_like(part)]), 20
        )
        found[0, 1] += table[0, 1]
        table = found
    missed = table[0, 1].item()
    assert 0 < missed <= len(keys) / 21
    own = table[1:][table[1:, 0] == 3]
    assert 400 - missed <= own[0, 1].item() <= 400


def test_tables_of_processes_are_joined() -> None:
    def table(*entries: tuple[int, int]) -> torch.Tensor:
        found = torch.zeros(4, 2, dtype=torch.int64)
        found[1 : 1 + len(entries)] = torch.tensor(entries)
        return found

    joined = joined_tables(torch.stack([table((0, 2), (7, 5)), table((7, 1), (9, 4))]))
    assert joined.tolist() == [[0, 0], [0, 2], [7, 6], [9, 4]]


def test_memory_of_metrics_is_counted_by_class() -> None:
    from pipeline.planning.cost import metric_bytes

    few, many = (metric_bytes(Classification(classes=n).metrics()) for n in (1000, 2000))
    assert 1.9 < many / few < 2.1
    assert many < 3 * 2000 * PAIRS_PER_CLASS * 16
