from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from pipeline.plots.confusion import plot_confusion_matrix
from pipeline.plots.history import (
    _by_task,
    _main_metrics,
    _smooth,
    plot_fork_merge,
    plot_gate_weights,
    plot_gradient_cosines,
    plot_metric_curves,
)
from pipeline.tracking.journals import MetricPoint


def is_picture(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000


def points() -> list[MetricPoint]:
    steps = range(0, 1000, 10)
    found = [MetricPoint("train/digit/loss", 2 / (step + 1), step, 0) for step in steps]
    found += [MetricPoint("train/digit/weight", 1.0, step, 0) for step in steps]
    found += [MetricPoint("valid/digit/loss", 1 / (step + 1), step, 0) for step in (500, 990)]
    found += [MetricPoint("valid/digit/score", step / 1000, step, 0) for step in (500, 990)]
    found += [MetricPoint("valid/digit/accuracy", step / 1000, step, 0) for step in (500, 990)]
    found += [
        MetricPoint("test/digit/score", 0.9, 990, 0),
        MetricPoint("valid/age/loss", 1.0, 990, 0),
    ]
    return [*found, MetricPoint("system/cpu", 3.0, 1, 0), MetricPoint("rate", 0.1, 1, 0)]


def test_curves_choose_loss_and_held_out_metrics() -> None:
    tasks = _by_task(points())
    assert sorted(tasks) == ["age", "digit"]
    assert _main_metrics(tasks["digit"]) == ["loss", "score", "accuracy"]
    assert tasks["digit"]["score"]["test"] == ([990], [0.9])


@pytest.mark.parametrize(
    "history", [[], points(), [MetricPoint("train/a/loss", float("nan"), 0, 0)]]
)
def test_curves_are_drawn(tmp_path: Path, history: list[MetricPoint]) -> None:
    plot_metric_curves(history, tmp_path / "plots" / "curves.png")
    assert is_picture(tmp_path / "plots" / "curves.png")


def test_smoothing_keeps_a_constant_and_leaves_gaps_out() -> None:
    values = np.full(100, 3.0)
    values[40] = np.nan
    np.testing.assert_allclose(_smooth(values), 3.0)


@pytest.mark.parametrize("classes", [2, 10, 30, 200])
def test_confusion_matrix_is_drawn(tmp_path: Path, classes: int) -> None:
    matrix = np.random.default_rng(0).integers(0, 9, (classes, classes))
    labels = [f"a class with a long name {i}" for i in range(classes)]
    plot_confusion_matrix(matrix, labels, "digit, test", tmp_path / "c.png")
    assert is_picture(tmp_path / "c.png")


def test_confusion_matrix_without_rows(tmp_path: Path) -> None:
    for classes in (3, 40):
        zeros = np.zeros((classes, classes), dtype=int)
        plot_confusion_matrix(zeros, list("x" * classes), "none", tmp_path / "c.png")
        assert is_picture(tmp_path / "c.png")


def test_confusion_matrix_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be \(3, 3\), got \(2, 2\)"):
        plot_confusion_matrix(np.eye(2), list("abc"), "t", tmp_path / "c.png")


def looks(tasks: Sequence[str]) -> list[MetricPoint]:
    """What a run notes of its tasks' gradients, with a gap."""
    found = []
    for step in range(0, 1000, 20):
        for number, task in enumerate(tasks):
            found.append(MetricPoint(f"weight/{task}", 1 + number / 10, step, 0))
            found.append(MetricPoint(f"gradient/norm/{task}", float(number), step, 0))
        for one, other in combinations(tasks, 2):
            if step != 500:
                found.append(MetricPoint(f"gradient/cosine/{one}/{other}", np.sin(step), step, 0))
    return found


@pytest.mark.parametrize("tasks", [("a", "b"), [f"task {i}" for i in range(12)], ("情感", "b")])
def test_gradients_are_drawn(tmp_path: Path, tasks: Sequence[str]) -> None:
    assert plot_gradient_cosines(looks(tasks), tmp_path / "plots" / "gradients.png")
    assert is_picture(tmp_path / "plots" / "gradients.png")


@pytest.mark.parametrize("history", [[], points(), looks(["a"])])
def test_without_pairs_no_gradients_are_drawn(tmp_path: Path, history: list[MetricPoint]) -> None:
    assert not plot_gradient_cosines(history, tmp_path / "gradients.png")
    assert not (tmp_path / "gradients.png").exists()


def test_a_single_look_is_drawn(tmp_path: Path) -> None:
    history = [p for p in looks(["a", "b"]) if p.step == 0]
    assert plot_gradient_cosines(history, tmp_path / "gradients.png")


def test_weights_take_no_place_where_a_method_has_none(tmp_path: Path) -> None:
    both, without, single = (tmp_path / f"{name}.png" for name in ("both", "without", "single"))
    history = looks(["a", "b"])
    weights = [p for p in history if p.key.startswith("weight/")]
    others = [p for p in history if p not in weights]
    assert plot_gradient_cosines(history, both)
    assert plot_gradient_cosines(others, without)
    assert imread(without).shape[0] < imread(both).shape[0]
    assert plot_gradient_cosines([*others, *(p for p in weights if p.step == 0)], single)
    picture = imread(single)
    foot = picture[-250:, : picture.shape[1] // 2, :3]  # left of the legend
    assert (foot.max(axis=2) - foot.min(axis=2) > 0.3).any()  # a point has a colour


def mixtures(tasks: Sequence[str], sources: Sequence[str]) -> list[MetricPoint]:
    """What a run notes of its tasks' gates; the first task has no rows at first."""
    draws = np.random.default_rng(0)
    return [
        MetricPoint(f"{kind}/{task}/{source}", float(draws.normal()), step, 0)
        for step in range(0, 100, 10)
        for number, task in enumerate(tasks)
        for source in sources
        for kind in ("gate", "load")
        if step or number
    ]


@pytest.mark.parametrize(
    ("tasks", "sources"),
    [
        (["a"], ["expert_0"]),
        (["a", "情感", "c", "d"], ["own_0", "shared_0", "情感"]),
        ([f"a task with a long name {i}" for i in range(20)], [f"expert_{i}" for i in range(16)]),
    ],
)
def test_gates_are_drawn(tmp_path: Path, tasks: list[str], sources: list[str]) -> None:
    assert plot_gate_weights(mixtures(tasks, sources), tmp_path / "plots" / "gates.png")
    assert is_picture(tmp_path / "plots" / "gates.png")


@pytest.mark.parametrize("kind", ["source", "attention"])
def test_other_weights_are_drawn_alike(tmp_path: Path, kind: str) -> None:
    history = [MetricPoint(f"{kind}/a/b", 0.5, 0, 0), MetricPoint("gate/a/b", 0.5, 0, 0)]
    assert plot_gate_weights(history, tmp_path / "weights.png", kind)
    assert is_picture(tmp_path / "weights.png")
    assert not plot_gate_weights(history[1:], tmp_path / "none.png", kind)


@pytest.mark.parametrize("history", [[], points(), looks(["a", "b"])])
def test_without_gates_none_are_drawn(tmp_path: Path, history: list[MetricPoint]) -> None:
    assert not plot_gate_weights(history, tmp_path / "gates.png")
    assert not (tmp_path / "gates.png").exists()


def merges() -> list[MetricPoint]:
    found = []
    for number, (accepted, share) in enumerate([(1.0, 0.4), (0.0, 1.0), (1.0, 0.6)], start=1):
        values = {"accepted": accepted, "kept/digit": 0.6}
        values |= {"coefficient/multi_task": share, "coefficient/targets_only": 1 - share}
        values |= {"score/multi_task/digit": 0.5, "score/targets_only/digit": 0.6}
        found += [MetricPoint(f"fork_merge/{k}", v, 10 * number, 0) for k, v in values.items()]
    return found


def test_rounds_are_drawn(tmp_path: Path) -> None:
    assert plot_fork_merge(merges(), tmp_path / "rounds.png")
    assert is_picture(tmp_path / "rounds.png")


def test_without_rounds_none_are_drawn(tmp_path: Path) -> None:
    assert not plot_fork_merge(points(), tmp_path / "rounds.png")
    assert not (tmp_path / "rounds.png").exists()
