"""Head, loss, metrics and labels of one thing to predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from lightning_modules.tasks.base import label_text
from lightning_modules.tasks.classification import Classification
from pollinate.errors import PollinateError, UsageError
from tests.rows.groups import rows
from tests.rows.row import Row, ids


class Letters:
    """a is 0, the end 1."""

    end = 1
    room = 8

    def encode_answers(self, texts: Sequence[str]) -> list[list[int]]:
        return [[0] * len(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return "a" * len(ids)


def learnt(*classes: Any, **options: Any) -> Classification:
    task = Classification(**options)
    task.learn(classes)
    return task


@pytest.mark.parametrize("row", rows("task"), ids=ids)
def test_row(row: Row) -> None:
    outputs, values = row.given
    task = row.build()
    task.use_codec(Letters())
    task.learn(values)
    encoded = task.encode(values)
    targets, present = encoded.targets, encoded.present
    assert present.all()
    assert task.loss(torch.tensor(outputs), targets).tolist() == pytest.approx(row.expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_loss_is_that_of_torch(smoothing: float) -> None:
    logits, target = torch.randn(20, 4), torch.randint(4, (20,))
    task = learnt(*"abcd", label_smoothing=smoothing)
    found = task.loss(logits, target)
    assert found.shape == (20,)
    mean = functional.cross_entropy(logits, target, label_smoothing=smoothing)
    assert torch.allclose(found.mean(), mean)


def test_smoothing_is_the_equation() -> None:
    logits, target, share = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1]), 0.3
    mixed = (1 - share) * functional.one_hot(target, 3) + share / 3
    expected = -(mixed * logits.log_softmax(dim=1)).sum(dim=1)
    assert torch.allclose(learnt(*"abc", label_smoothing=share).loss(logits, target), expected)


def test_loss_is_computed_in_float32() -> None:
    logits = torch.randn(4, 2).bfloat16()
    assert learnt("a", "b").loss(logits, torch.zeros(4, dtype=torch.long)).dtype == torch.float32


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (3.0, "3"),
        (np.float64(3.0), "3"),
        (np.int64(3), "3"),
        (3.5, "3.5"),
        (-0.0, "0"),
        (" yes ", "yes"),
        ("3.0", "3.0"),
        (True, "True"),
        (0, "0"),
        (None, None),
        (float("nan"), None),
        (np.float32("nan"), None),
        ("", None),
        ("  ", None),
        (float("inf"), "inf"),
        ("grün".encode(), "grün"),
        (b"\xff", "\ufffd"),
    ],
)
def test_label_text(value: Any, text: str | None) -> None:
    assert label_text(value) == text


def test_classes_are_sorted_and_distinct() -> None:
    assert learnt("b", None, "a", "b", "").classes == ["a", "b"]


def test_encode_marks_missing_labels() -> None:
    encoded = learnt("a", "b").encode(["b", None, "a", float("nan"), ""])
    targets, present = encoded.targets, encoded.present
    assert present.tolist() == [True, False, True, False, False]
    assert targets[present].tolist() == [1, 0]
    assert targets.dtype == torch.int64


def test_encode_of_numbers_with_gaps_is_that_of_numbers() -> None:
    task = learnt(1, 2, 3)
    assert task.encode([1.0, 3.0, None]).targets.tolist() == [0, 2, 0]


def test_unseen_labels_are_listed() -> None:
    encoded = learnt("a", "b").encode(["a", "d", "c", "d"])
    assert encoded.unseen == {1: "d", 2: "c", 3: "d"}
    assert encoded.present.tolist() == [True, False, False, False]


def test_decode_undoes_encode() -> None:
    task, values = learnt("a", "b", "c"), ["c", "a", "b", "b"]
    targets = task.encode(values).targets
    answers = task.decode(functional.one_hot(targets, 3) * 20.0)
    assert [answer["label"] for answer in answers] == values


def test_decode_gives_probabilities() -> None:
    (answer,) = learnt("a", "b").decode(torch.tensor([[0.0, torch.tensor(3.0).log()]]))
    assert answer["label"] == "b"
    assert answer["probability"] == pytest.approx(0.75)
    assert answer["probabilities"] == pytest.approx({"a": 0.25, "b": 0.75})


def test_head_has_one_output_a_class() -> None:
    assert learnt(*"abc").head(7)(torch.zeros(2, 7)).shape == (2, 3)


def test_baseline_answers_the_most_frequent_training_class() -> None:
    assert learnt(*"abbc").baseline(torch.tensor([1, 1, 1, 0])) == {"accuracy": 0.75}


def test_baseline_without_labels_is_empty() -> None:
    assert learnt("a", "b").baseline(torch.zeros(0)) == {}


def test_metrics_by_hand() -> None:
    metrics = learnt("a", "b").metrics()
    outputs = functional.one_hot(torch.tensor([0, 0, 1, 1]), 2).float()
    metrics.update(outputs, torch.tensor([0, 1, 1, 1]))
    found = metrics.compute()
    assert found["accuracy"].item() == pytest.approx(0.75)
    assert found["f1"].item() == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert found["confusion"].tolist() == [[1, 0], [1, 2]]
    assert Classification.score in found


def test_state_round_trip() -> None:
    task, other = learnt("a", "b"), Classification()
    other.load_state_dict(task.state_dict())
    assert other.encode(["b"]).targets.tolist() == [1]


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_wrong_smoothing_is_refused(smoothing: float) -> None:
    with pytest.raises(UsageError, match=rf"label_smoothing must be in \[0, 1\), got {smoothing}"):
        Classification(label_smoothing=smoothing)


def test_one_class_is_refused() -> None:
    with pytest.raises(PollinateError, match=r"classes must be >= 2 .* got 1 \(a\)"):
        learnt("a", "a")
