from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from lightning_modules.tasks.class_metrics import FrequentConfusions
from pipeline.plots import run_plots
from pipeline.plots.confusion import plot_confusion_matrix, plot_small_confusions
from pipeline.plots.history import (
    _by_task,
    _main_metrics,
    _smooth,
    plot_fork_merge,
    plot_gate_weights,
    plot_gradient_cosines,
    plot_metric_curves,
)
from pipeline.plots.run_plots import draw_confusions
from pipeline.run_folder import RunFolder
from pipeline.tracking.journals import MetricPoint
from pollinate.errors import PollinateError


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


def test_a_run_draws_its_plots(tiny_run: Path) -> None:
    tasks = json.loads((tiny_run / "summary.json").read_text())["test"]
    pictures = {path.name for path in (tiny_run / "plots").iterdir()}
    every = ("curves.png", "gradients.png", "reliability.png")
    assert pictures == {*every, *(f"confusion-{t}.png" for t in tasks)}


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
    matrix = torch.from_numpy(np.random.default_rng(0).integers(0, 9, (classes, classes)))
    labels = [f"a class with a long name {i}" for i in range(classes)]
    plot_confusion_matrix(matrix, labels, "digit, test", tmp_path / "c.png")
    assert is_picture(tmp_path / "c.png")


def test_confusion_matrix_without_rows(tmp_path: Path) -> None:
    for classes in (3, 40):
        zeros = torch.zeros(classes, classes, dtype=torch.int64)
        plot_confusion_matrix(zeros, list("x" * classes), "none", tmp_path / "c.png")
        assert is_picture(tmp_path / "c.png")


def test_confusion_matrix_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be \(3, 3\), got \(2, 2\)"):
        plot_confusion_matrix(torch.eye(2), list("abc"), "t", tmp_path / "c.png")


def test_confusions_of_thousands_of_classes_are_drawn(tmp_path: Path) -> None:
    metric = FrequentConfusions(5000)
    target = torch.arange(3000) % 5000
    metric.update((target + 7) % 5000, target)
    labels = [f"item {n}" for n in range(5000)]
    plot_confusion_matrix(metric.compute(), labels, "item", tmp_path / "c.png")
    assert is_picture(tmp_path / "c.png")


def test_many_tasks_are_one_picture_of_each_kind(tmp_path: Path) -> None:
    history = [
        MetricPoint(f"{split}/task {n}/{name}", step / (n + 1), step, 0)
        for n in range(70)
        for split, name in (("train", "loss"), ("valid", "loss"), ("valid", "f1"))
        for step in ((50,) if n == 3 else (0, 50, 100))
    ]
    assert plot_metric_curves(history, tmp_path / "curves.png")
    assert is_picture(tmp_path / "curves.png")
    assert imread(tmp_path / "curves.png").shape[0] < 5000
    matrices = {f"task {n}": torch.randint(0, 9, (c, c)) for n, c in enumerate([2, 40] * 35)}
    labels = {task: [str(n) for n in range(len(m))] for task, m in matrices.items()}
    plot_small_confusions(matrices, labels, tmp_path / "confusions.png")
    assert is_picture(tmp_path / "confusions.png")


def drawn_tasks(tasks: Sequence[str], tmp_path: Path) -> list[str]:
    module: Any = SimpleNamespace(tasks={task: SimpleNamespace(classes="ab") for task in tasks})
    matrices = {task: torch.tensor([[3, 1], [0, 2]]) for task in tasks}
    folder = RunFolder(tmp_path)
    return [path.name for path in draw_confusions(folder, module, matrices)]


def test_any_name_of_a_task_is_a_file(tmp_path: Path) -> None:
    long = "x" * 300
    found = drawn_tasks(["a/b", "a_b", long, "情感"], tmp_path)
    assert found[1] == "confusion-a_b.png"
    assert len(set(found)) == 4
    assert max(len(name.encode()) for name in found) < 255
    assert sorted(found) == sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert drawn_tasks([f"task {n}" for n in range(9)], tmp_path) == ["confusions.png"]


def test_a_plot_that_fails_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> bool:
        raise ValueError("no room")

    monkeypatch.setattr(run_plots, "PLOTS", {"gates": fails, "curves": plot_metric_curves})
    module: Any = SimpleNamespace(tasks={"a": SimpleNamespace(classes="ab")})
    folder = RunFolder(tmp_path)
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(PollinateError, match=r"gates.png can't be drawn: no room"):
        run_plots.draw_plots(folder, module, {"a": torch.eye(2, dtype=torch.int64)})
    assert {path.name for path in folder.plots.iterdir()} == {"curves.png", "confusion-a.png"}


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
