"""What branches were merged, and what that did to the tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.plots.figure_style import COLOURS, INK, clean, new_figure, write
from pipeline.tracking.journals import MetricPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Series = dict[int, float]  # {optimizer step at a round's end: value}
PREFIX = "fork_merge/"


def plot_fork_merge(points: Iterable[MetricPoint], path: Path) -> bool:
    """Draw each round's coefficients, and by task the scores of branches and of their merge.

    A round that was rolled back is pale and crossed.

    Args:
        points: a run's history, keys ``fork_merge/...``; others are left out.
        path: of the PNG.

    Returns:
        Whether there was anything to draw.
    """
    found: dict[str, Series] = defaultdict(dict)
    for point in points:
        if point.key.startswith(PREFIX):
            found[point.key.removeprefix(PREFIX)][point.step] = point.value
    accepted = found.pop("accepted", {})
    if not accepted:
        return False
    coefficients = _below(found, "coefficient/")
    tasks = sorted({name.partition("/")[2] for name in _below(found, "score/")})
    figure = new_figure(9.0, 2.4 + 2.3 * len(tasks))
    top, *others = figure.subplots(1 + len(tasks), 1, squeeze=False).flatten()
    _draw_coefficients(top, coefficients, accepted)
    for axis, task in zip(others, tasks, strict=True):
        _draw_task(axis, task, found, list(coefficients), accepted)
    for axis in (top, *others):
        axis.set_xlim(0.4, len(accepted) + 0.6)
        axis.xaxis.get_major_locator().set_params(integer=True)
    write(figure, path)
    return True


def _below(found: Mapping[str, Series], prefix: str) -> dict[str, Series]:
    return {n.removeprefix(prefix): series for n, series in found.items() if n.startswith(prefix)}


def _draw_coefficients(axis: Axes, coefficients: Mapping[str, Series], accepted: Series) -> None:
    steps = sorted(accepted)
    numbers = list(range(1, len(steps) + 1))
    bottom = [0.0] * len(steps)
    for number, (branch, series) in enumerate(coefficients.items()):
        heights = [series.get(step, 0.0) for step in steps]
        bars = axis.bar(
            numbers, heights, 0.8, bottom, color=COLOURS[number % len(COLOURS)], label=branch
        )
        for bar, step in zip(bars, steps, strict=True):
            bar.set_alpha(1.0 if accepted[step] else 0.25)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    refused = [number for number, step in zip(numbers, steps, strict=True) if not accepted[step]]
    axis.plot(refused, [0.5] * len(refused), "x", color=INK, markersize=8)
    axis.set_title(
        "coefficients of each round; x: rolled back", loc="left", fontsize=10.5, color=INK
    )
    axis.set_ylim(0, 1)
    axis.legend(fontsize=8, frameon=False, ncols=6, loc="upper left", bbox_to_anchor=(0, -0.12))
    clean(axis)


def _draw_task(
    axis: Axes, task: str, found: Mapping[str, Series], branches: list[str], accepted: Series
) -> None:
    numbers = {step: number for number, step in enumerate(sorted(accepted), start=1)}
    for number, branch in enumerate(branches):
        series = found.get(f"score/{branch}/{task}", {})
        places = [numbers[step] for step in series]
        axis.plot(places, list(series.values()), "o", color=COLOURS[number % len(COLOURS)], ms=3.5)
    kept = found.get(f"kept/{task}", {})
    axis.plot(
        [numbers[step] for step in kept], list(kept.values()), color=INK, lw=1.5, label="kept"
    )
    axis.set_title(f"{task}  ·  validation score", loc="left", fontsize=10.5, color=INK)
    axis.set_xlabel("round", fontsize=8.5, color=INK)
    axis.legend(fontsize=8, frameon=False)
    clean(axis)
