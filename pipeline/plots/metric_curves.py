"""Losses and scores over the steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.plots.figure_style import INK, clean, new_figure, write
from pipeline.tracking.journals import MetricPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Series = dict[str, tuple[list[int], list[float]]]  # key -> steps, values

_SPLITS = {"train": "#9aa5b1", "valid": "#1f6feb", "test": "#d1480f"}
_WINDOW = 30  # parts of a noisy curve over which it is averaged


def plot_metric_curves(points: Iterable[MetricPoint], path: Path) -> None:
    """Draw, for each task, the loss and the other metrics over the optimizer steps.

    Args:
        points: a run's history, keys ``split/task/metric``; others are left out.
        path: of the PNG.
    """
    tasks = _by_task(points)
    metrics = {task: _main_metrics(tasks[task]) for task in sorted(tasks)}
    columns = max((len(names) for names in metrics.values()), default=1)
    figure = new_figure(4.6 * columns, 2.9 * max(len(metrics), 1))
    axes = figure.subplots(max(len(metrics), 1), columns, squeeze=False)
    for row, (task, names) in enumerate(metrics.items()):
        for column, axis in enumerate(axes[row]):
            if column < len(names):
                _draw_metric(axis, task, names[column], tasks[task])
            else:
                axis.set_axis_off()
    if not metrics:
        axes[0][0].text(0.5, 0.5, "no metrics of tasks yet", ha="center", color=INK)
        axes[0][0].set_axis_off()
    write(figure, path)


def _by_task(points: Iterable[MetricPoint]) -> dict[str, dict[str, Series]]:
    """Sort into task -> metric -> split -> (steps, values)."""
    tasks: dict[str, dict[str, Series]] = defaultdict(lambda: defaultdict(dict))
    for point in points:
        split, _, rest = point.key.partition("/")
        task, _, metric = rest.partition("/")
        if split in _SPLITS and metric:
            steps, values = tasks[task][metric].setdefault(split, ([], []))
            steps.append(point.step)
            values.append(point.value)
    return tasks


def _main_metrics(metrics: dict[str, Series]) -> list[str]:
    """Loss first, then what was also measured on held-out rows; at most three."""
    held_out = [name for name, series in metrics.items() if set(series) - {"train"}]
    others = [name for name in held_out or metrics if name != "loss"]
    others.sort(key=lambda name: (name != "score", name))
    return ["loss", *others][:3] if "loss" in metrics else others[:3]


def _draw_metric(axis: Axes, task: str, metric: str, metrics: dict[str, Series]) -> None:
    series = metrics[metric]
    for split in _SPLITS.keys() & series.keys():
        steps, values = (np.asarray(column, dtype=float) for column in series[split])
        _draw_series(axis, split, steps, values)
    if metric == "loss" and _spans_decades(series):
        axis.set_yscale("log")
    axis.set_title(f"{task}  ·  {metric}", loc="left", fontsize=10.5, color=INK)
    axis.set_xlabel("optimizer steps", fontsize=8.5, color=INK)
    axis.margins(x=0.02)
    handles, labels = axis.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: list(_SPLITS).index(labels[i]))
    axis.legend([handles[i] for i in order], [labels[i] for i in order], fontsize=8, frameon=False)
    clean(axis)


def _draw_series(axis: Axes, split: str, steps: NDArray[Any], values: NDArray[Any]) -> None:
    colour = _SPLITS[split]
    if len(steps) == 1:
        axis.plot(steps, values, "D", color=colour, markersize=6, label=split, zorder=4)
    elif split == "train" and len(steps) > 2 * _WINDOW:
        axis.plot(steps, values, color=colour, alpha=0.3, linewidth=0.7)
        axis.plot(steps, _smooth(values), color="#57606a", linewidth=1.5, label=split)
    else:
        marker = "o" if len(steps) <= 40 else ""
        axis.plot(steps, values, marker=marker, markersize=3, color=colour, label=split, zorder=3)


def _smooth(values: NDArray[Any]) -> NDArray[Any]:
    """Average over a centred window, shorter at the ends; gaps (NaN) stay out of it."""
    kernel = np.ones(max(3, len(values) // _WINDOW) | 1)
    known = np.isfinite(values)
    total = np.convolve(np.where(known, values, 0.0), kernel, mode="same")
    count = np.convolve(known.astype(float), kernel, mode="same")
    smooth: NDArray[Any] = np.divide(
        total, count, out=np.full(len(values), np.nan), where=count > 0
    )
    return smooth


def _spans_decades(series: Series) -> bool:
    values = np.concatenate([np.asarray(v, dtype=float) for _, v in series.values()])
    values = values[np.isfinite(values)]
    return bool(values.size and values.min() > 0 and values.max() / values.min() > 50)
