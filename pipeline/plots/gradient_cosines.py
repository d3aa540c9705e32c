"""How the tasks' gradients lie to each other, over the steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.plots.figure_style import INK, clean, is_drawable, line_style, new_figure, write
from pipeline.tracking.journals import MetricPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Values = Mapping[str, Mapping[int, float]]  # {what: {step: value}}
_MOST_PAIRS = 30
_MOST_COLUMNS = 400


def plot_gradient_cosines(points: Iterable[MetricPoint], path: Path) -> bool:
    """Draw the cosine of each pair of tasks as a heat map, with weights and lengths of gradients.

    Args:
        points: a run's history, keys ``gradient/cosine/<task>/<task>``, ``gradient/norm/<task>``
            and ``weight/<task>``; others are left out.
        path: of the PNG.

    Returns:
        Whether there was anything to draw.
    """
    found: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for point in points:
        for kind in ("gradient/cosine/", "gradient/norm/", "weight/"):
            if point.key.startswith(kind):
                found[kind][point.key.removeprefix(kind)][point.step] = point.value
    cosines, norms, weights = (found[k] for k in ("gradient/cosine/", "gradient/norm/", "weight/"))
    if not cosines:
        return False
    pairs = _most_conflicting(cosines)
    below = [("length of each task's gradient", norms, True)]
    if weights:  # some methods have none
        below.append(("weight of each task", weights, False))
    heights = [0.9 + 0.3 * len(pairs), *(2.4 for _ in below)]
    figure = new_figure(9.0, sum(heights))
    top, *rest = figure.subplots(len(heights), 1, height_ratios=heights, sharex=True)
    _heat_map(top, {pair: cosines[pair] for pair in pairs}, len(cosines))
    for axis, (title, values, log) in zip(rest, below, strict=True):
        _lines(axis, values, title, log=log)
    rest[-1].set_xlabel("optimizer steps", fontsize=8.5, color=INK)
    write(figure, path)
    return True


def _most_conflicting(cosines: Values) -> list[str]:
    """Return the pairs to draw, the lowest mean cosine first."""
    means = {pair: float(np.mean(list(series.values()))) for pair, series in cosines.items()}
    return sorted(means, key=lambda pair: means[pair])[:_MOST_PAIRS]


def _heat_map(axis: Axes, cosines: Values, count: int) -> None:
    steps = sorted({step for series in cosines.values() for step in series})
    columns = np.array_split(steps, min(len(steps), _MOST_COLUMNS))
    table = np.array([[_mean(series, part) for part in columns] for series in cosines.values()])
    edges = [float(part[0]) for part in columns]
    edges.append(edges[-1] + (edges[-1] - edges[-2] if len(edges) > 1 else 1.0))
    image = axis.pcolormesh(
        edges, np.arange(len(table) + 1), np.ma.masked_invalid(table), cmap="RdBu", vmin=-1, vmax=1
    )
    axis.figure.colorbar(image, ax=axis, label="cosine", pad=0.01, aspect=12)
    names = [pair.replace("/", " · ") for pair in cosines]
    labels = [name if is_drawable(name) else f"pair {n}" for n, name in enumerate(names)]
    axis.set_yticks(np.arange(len(table)) + 0.5, labels, fontsize=8)
    axis.invert_yaxis()
    shown = "" if count == len(table) else f", the {len(table)} lowest of {count} pairs"
    share = np.nanmean(np.where(np.isnan(table), np.nan, table < 0))
    axis.set_title(
        f"cosine of the tasks' gradients{shown}  ·  {share:.0%} in conflict (below 0)",
        loc="left",
        fontsize=10.5,
        color=INK,
    )
    axis.tick_params(colors=INK, labelsize=8, length=0)
    axis.spines[:].set_visible(False)


def _mean(series: Mapping[int, float], steps: NDArray[np.int64]) -> float:
    known = [series[step] for step in steps.tolist() if step in series]
    return float(np.mean(known)) if known else float("nan")


def _lines(axis: Axes, values: Values, title: str, *, log: bool) -> None:
    for number, (name, series) in enumerate(sorted(values.items())):
        label = name if is_drawable(name) else f"task {number}"
        point = "o" if len(series) == 1 else None  # a line of one point can't be seen
        steps, numbers = list(series), list(series.values())
        axis.plot(steps, numbers, marker=point, label=label, lw=1.3, **line_style(number))
    if log and all(value > 0 for series in values.values() for value in series.values()):
        axis.set_yscale("log")
    axis.set_title(title, loc="left", fontsize=10.5, color=INK)
    if values:
        axis.legend(fontsize=8, frameon=False, loc="upper right", ncols=4)
    clean(axis)
