"""What is measured of a run."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from lightning_modules.metrics import (
    EvaluationMetrics,
    RunningLosses,
    load_metric_state,
    metric_state,
)
from lightning_modules.tasks.classification import Classification

LOGITS = torch.tensor([[4.0, 0.0], [0.0, 4.0], [0.0, 4.0], [4.0, 0.0]])
TARGET = torch.tensor([0, 1, 0, 0])


def tasks() -> dict[str, Classification]:
    found = {"a": Classification(), "b": Classification()}
    for task in found.values():
        task.learn(["no", "yes"])
    return found


def test_losses_are_means_over_rows() -> None:
    losses = RunningLosses(tasks())
    losses.add({"a": torch.tensor(6.0), "b": torch.tensor(1.0)}, {"a": 2, "b": 1})
    losses.add({"a": torch.tensor(3.0)}, {"a": 1})
    assert losses.take() == {"a": 3.0, "b": 1.0}


def test_losses_start_anew() -> None:
    losses = RunningLosses(tasks())
    losses.add({"a": torch.tensor(6.0)}, {"a": 2})
    losses.take()
    losses.add({"b": torch.tensor(1.0)}, {"b": 1})
    assert losses.take() == {"b": 1.0}


def test_losses_of_no_rows_are_left_out() -> None:
    losses = RunningLosses(tasks())
    losses.add({"a": torch.tensor(0.0)}, {"a": 0})
    assert losses.take() == {}


def test_scores_by_hand() -> None:
    scores = EvaluationMetrics(tasks())
    scores.update("a", LOGITS[:2], TARGET[:2])
    scores.update("a", LOGITS[2:], TARGET[2:])
    numbers, matrices = scores.take()
    assert numbers.keys() == matrices.keys() == {"a"}
    assert numbers["a"]["accuracy"] == pytest.approx(0.75)
    expected = functional.cross_entropy(LOGITS, TARGET).item()
    assert numbers["a"]["loss"] == pytest.approx(expected)
    assert matrices["a"].tolist() == [[2, 1], [0, 1]]


def test_scores_start_anew() -> None:
    scores = EvaluationMetrics(tasks())
    scores.update("a", LOGITS, TARGET)
    scores.take()
    assert scores.take() == ({}, {})
    scores.update("a", LOGITS[:1], TARGET[:1])
    assert scores.take()[0]["a"]["accuracy"] == 1.0


def test_a_task_without_labelled_rows_is_left_out() -> None:
    scores = EvaluationMetrics(tasks())
    scores.update("a", LOGITS[:0], TARGET[:0])
    scores.update("b", LOGITS, TARGET)
    assert scores.take()[0].keys() == {"b"}


@pytest.mark.parametrize("name", ["accuracy", "f1", "confusion"])
def test_metric_state_round_trip(name: str) -> None:
    one, other = (tasks()["a"].metrics()[name] for _ in range(2))
    one.update(LOGITS[:3], TARGET[:3])
    load_metric_state(other, metric_state(one))
    for metric in (one, other):
        metric.update(LOGITS[3:], TARGET[3:])
    assert torch.equal(one.compute(), other.compute())


def test_metric_state_is_a_copy() -> None:
    metric = tasks()["a"].metrics()["accuracy"]
    metric.update(LOGITS, TARGET)
    state = metric_state(metric)
    before = {name: torch.as_tensor(value).clone() for name, value in state.items()}
    metric.update(LOGITS, TARGET)
    assert all(torch.equal(before[name], torch.as_tensor(value)) for name, value in state.items())
