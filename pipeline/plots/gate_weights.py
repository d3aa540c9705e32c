"""What each task takes from where, over the steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.plots.figure_style import (
    INK,
    SLANT,
    clean,
    is_drawable,
    line_style,
    new_figure,
    write,
)
from pipeline.tracking.journals import MetricPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Gates = Mapping[str, Mapping[str, Mapping[int, float]]]  # {task: {source: {step: weight}}}
_TITLES = {
    "gate": "what each task takes at the end",
    "source": "what each task takes from sources at the end",
    "attention": "how alike tasks look at their rows at the end",
}
_COLUMNS = 3  # of the curves
_MOST_TASKS = 12  # whose curves are drawn


def plot_gate_weights(points: Iterable[MetricPoint], path: Path, kind: str = "gate") -> bool:
    """Draw the last weights as a heat map of tasks and sources, and each task's over the steps.

    Args:
        points: a run's history, keys ``<kind>/<task>/<source>``; others are left out.
        path: of the PNG.
        kind: ``gate``, of a trunk; ``source``, of other models; ``attention``, between tasks.

    Returns:
        Whether there was anything to draw.
    """
    found: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for point in points:
        first, _, name = point.key.partition("/")
        if first == kind:
            task, _, source = name.partition("/")
            found[task][source][point.step] = point.value
    if not found:
        return False
    tasks = sorted(found)
    sources = list(dict.fromkeys(source for task in tasks for source in found[task]))
    drawn = tasks[:_MOST_TASKS]
    lines = -(-len(drawn) // _COLUMNS)
    heights = [1.6 + 0.34 * len(tasks), 0.4 + 2.0 * lines]
    figure = new_figure(max(9.0, 2.5 + 0.62 * len(sources)), sum(heights))
    parts: Any = figure.subfigures(2, 1, height_ratios=heights)  # typed as one or several
    top, bottom = parts
    _heat_map(top.subplots(), found, tasks, sources, _TITLES[kind])
    axes = bottom.subplots(lines, _COLUMNS, squeeze=False, sharex=True, sharey=True).flatten()
    for axis, task in zip(axes, drawn, strict=False):
        _curves(axis, task, found[task], sources)
    for axis in axes[len(drawn) :]:
        axis.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    bottom.legend(handles, labels, fontsize=8, frameon=False, ncols=6, loc="outside lower center")
    write(figure, path)
    return True


def _heat_map(
    axis: Axes, found: Gates, tasks: Sequence[str], sources: Sequence[str], title: str
) -> None:
    table = np.array([[_last(found[task].get(source, {})) for source in sources] for task in tasks])
    most = max(1.0, float(np.nanmax(np.abs(table))))
    axis.imshow(np.ma.masked_invalid(table), cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            colour = "white" if abs(value) > 0.6 * most else INK
            text = f"{value:.2f}"
            axis.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    slant: dict[str, Any] = {**SLANT}
    axis.set_xticks(range(len(sources)), [_label(s, n) for n, s in enumerate(sources)], **slant)
    axis.set_yticks(range(len(tasks)), [_label(task, n) for n, task in enumerate(tasks)])
    axis.tick_params(colors=INK, labelsize=8, length=0)
    axis.spines[:].set_visible(False)
    axis.set_title(title, loc="left", fontsize=10.5, color=INK)


def _curves(
    axis: Axes, task: str, weights: Mapping[str, Mapping[int, float]], sources: Sequence[str]
) -> None:
    for number, source in enumerate(sources):
        series = weights.get(source, {})
        label = _label(source, number)
        axis.plot(list(series), list(series.values()), label=label, lw=1.3, **line_style(number))
    axis.set_title(_label(task, 0), loc="left", fontsize=9.5, color=INK)
    axis.set_xlabel("optimizer steps", fontsize=8, color=INK)
    clean(axis)
    axis.tick_params(labelbottom=True)  # also where no picture is below


def _last(series: Mapping[int, float]) -> float:
    return series[max(series)] if series else float("nan")


def _label(name: str, number: int) -> str:
    text = name if len(name) <= 24 else f"{name[:23]}…"
    return text if is_drawable(text) else f"number {number}"
