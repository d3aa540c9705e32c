"""Pictures of a run's history: metrics, gradients, gates and rounds over the optimizer steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.plots.figure_style import (
    COLOURS,
    INK,
    SLANT,
    clean,
    is_drawable,
    line_style,
    new_figure,
    short_label,
    write,
    write_title,
)
from pipeline.tracking.journals import MetricPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Series = Mapping[int, float]  # {optimizer step: value}
Curves = Mapping[str, Series]  # {what: its series}


def _below(points: Iterable[MetricPoint], *prefixes: str) -> list[dict[str, Series]]:
    """Return, for each prefix, the series of the keys that begin with it, by the keys' rests."""
    found: list[dict[str, dict[int, float]]] = [defaultdict(dict) for _ in prefixes]
    for point in points:
        for own, prefix in zip(found, prefixes, strict=True):
            if point.key.startswith(prefix):
                own[point.key.removeprefix(prefix)][point.step] = point.value
    return [dict(own) for own in found]


MetricSeries = dict[str, tuple[list[int], list[float]]]  # key -> steps, values

_SPLITS = {"train": "#9aa5b1", "valid": "#1f6feb", "test": "#d1480f"}
_WINDOW = 30  # parts of a noisy curve over which it is averaged


def plot_metric_curves(points: Iterable[MetricPoint], path: Path) -> bool:
    """Draw, for each task, the loss and the other metrics over the optimizer steps.

    Above six tasks all of them are small lines in one picture, which takes less time than an axis
    for each, of at most 60 tasks.

    Args:
        points: a run's history, keys ``split/task/metric``; others are left out.
        path: of the PNG.

    Returns:
        True: also a run without any metric has this picture.
    """
    tasks = _by_task(points)
    metrics = {task: _main_metrics(tasks[task]) for task in sorted(tasks)}
    if len(metrics) > _MOST_FULL:
        write(_small_curves(tasks, metrics), path)
        return True
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
    return True


_MOST_FULL = 6  # tasks whose curves have an axis each
_MOST_SMALL = 60  # tasks whose curves are drawn at all
_WIDTH, _HEIGHT = 2.6, 0.42  # inches of a small curve


def _small_curves(
    tasks: Mapping[str, dict[str, MetricSeries]], metrics: Mapping[str, Sequence[str]]
) -> Figure:
    """Draw a row of small curves for each task, each over its own range, with its last values."""
    from matplotlib.collections import LineCollection

    shown = list(metrics)[:_MOST_SMALL]
    columns = max(map(len, metrics.values()))
    figure = new_figure(2.4 + _WIDTH * columns, 0.8 + _HEIGHT * len(shown))
    axis = figure.subplots()
    lines: dict[str, list[NDArray[Any]]] = {split: [] for split in _SPLITS}
    for row, task in enumerate(shown):
        name = short_label(task, row)
        axis.text(-0.03, row + 0.5, name, ha="right", va="center", fontsize=8, color=INK)
        for column, metric in enumerate(metrics[task]):
            series = tasks[task][metric]
            for split, line in _in_cell(series, row, column).items():
                lines[split].append(line)
            held_out = series.get("valid") or series.get("test") or series["train"]
            text = f"{metric} {held_out[1][-1]:.3g}"
            axis.text(column + 0.72, row + 0.5, text, va="center", fontsize=7, color=INK)
    for split, parts in lines.items():
        drawn = LineCollection(parts, colors=_SPLITS[split], linewidths=1.1, label=split)
        axis.add_collection(drawn)
    axis.set_xlim(-0.9, columns)
    axis.set_ylim(len(shown), 0)
    axis.set_axis_off()
    more = f", {len(shown)} of {len(metrics)} tasks" if len(shown) < len(metrics) else ""
    write_title(axis, f"each over its own range, with the last held-out value{more}")
    axis.legend(fontsize=8, frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def _in_cell(series: MetricSeries, row: int, column: int) -> dict[str, NDArray[Any]]:
    """Return {split: its curve (n, 2)} inside the cell of a row and a column."""
    found = {split: np.asarray(pair, dtype=float) for split, pair in series.items()}
    found = {split: pair[:, np.isfinite(pair[1])] for split, pair in found.items()}
    found = {split: pair for split, pair in found.items() if pair.shape[1]}
    if not found:
        return {}
    every = np.concatenate(list(found.values()), axis=1)
    low, span = every.min(axis=1, keepdims=True), np.ptp(every, axis=1, keepdims=True)
    cells = {}
    for split, pair in found.items():
        if split == "train" and pair.shape[1] > 2 * _WINDOW:
            pair = np.stack([pair[0], _smooth(pair[1])])
        # as many points as there are pixels; a single one is a short line
        thinned = pair[:, np.linspace(0, pair.shape[1] - 1, 200).astype(int)]
        shares = (thinned - low) / np.where(span > 0, span, 1.0)
        x, y = column + 0.02 + 0.64 * shares[0], row + 0.88 - 0.76 * shares[1]
        if pair.shape[1] == 1:
            x = x + np.linspace(-0.02, 0.02, len(x))
        cells[split] = np.stack([x, y], axis=1)
    return cells


def _by_task(points: Iterable[MetricPoint]) -> dict[str, dict[str, MetricSeries]]:
    """Sort into task -> metric -> split -> (steps, values)."""
    tasks: dict[str, dict[str, MetricSeries]] = defaultdict(lambda: defaultdict(dict))
    for point in points:
        split, _, rest = point.key.partition("/")
        task, _, metric = rest.partition("/")
        if split in _SPLITS and metric:
            steps, values = tasks[task][metric].setdefault(split, ([], []))
            steps.append(point.step)
            values.append(point.value)
    return tasks


def _main_metrics(metrics: dict[str, MetricSeries]) -> list[str]:
    """Loss first, then what was also measured on held-out rows; at most three."""
    held_out = [name for name, series in metrics.items() if set(series) - {"train"}]
    others = [name for name in held_out or metrics if name != "loss"]
    others.sort(key=lambda name: (name != "score", name))
    return ["loss", *others][:3] if "loss" in metrics else others[:3]


def _draw_metric(axis: Axes, task: str, metric: str, metrics: dict[str, MetricSeries]) -> None:
    series = metrics[metric]
    for split in _SPLITS.keys() & series.keys():
        steps, values = (np.asarray(column, dtype=float) for column in series[split])
        _draw_series(axis, split, steps, values)
    if metric == "loss" and _spans_decades(series):
        axis.set_yscale("log")
    write_title(axis, f"{short_label(task, 0)}  ·  {metric}")
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


def _spans_decades(series: MetricSeries) -> bool:
    values = np.concatenate([np.asarray(v, dtype=float) for _, v in series.values()])
    values = values[np.isfinite(values)]
    return bool(values.size and values.min() > 0 and values.max() / values.min() > 50)


_MOST_PAIRS = 30
_MOST_STEPS = 400


def plot_gradient_cosines(points: Iterable[MetricPoint], path: Path) -> bool:
    """Draw the cosine of each pair of tasks as a heat map, with weights and lengths of gradients.

    Args:
        points: a run's history, keys ``gradient/cosine/<task>/<task>``, ``gradient/norm/<task>``
            and ``weight/<task>``; others are left out.
        path: of the PNG.

    Returns:
        Whether there was anything to draw.
    """
    cosines, norms, weights = _below(points, "gradient/cosine/", "gradient/norm/", "weight/")
    if not cosines:
        return False
    pairs = _most_conflicting(cosines)
    below = [("length of each task's gradient", norms, True)]
    if weights:  # some methods have none
        below.append(("weight of each task", weights, False))
    heights = [0.9 + 0.3 * len(pairs), *(2.4 for _ in below)]
    figure = new_figure(9.0, sum(heights))
    top, *rest = figure.subplots(len(heights), 1, height_ratios=heights, sharex=True)
    _cosine_map(top, {pair: cosines[pair] for pair in pairs}, len(cosines))
    for axis, (title, values, log) in zip(rest, below, strict=True):
        _lines(axis, values, title, log=log)
    rest[-1].set_xlabel("optimizer steps", fontsize=8.5, color=INK)
    write(figure, path)
    return True


def _most_conflicting(cosines: Curves) -> list[str]:
    """Return the pairs to draw, the lowest mean cosine first."""
    means = {pair: float(np.mean(list(series.values()))) for pair, series in cosines.items()}
    return sorted(means, key=lambda pair: means[pair])[:_MOST_PAIRS]


def _cosine_map(axis: Axes, cosines: Curves, count: int) -> None:
    steps = sorted({step for series in cosines.values() for step in series})
    columns = np.array_split(steps, min(len(steps), _MOST_STEPS))
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
    write_title(
        axis, f"cosine of the tasks' gradients{shown}  ·  {share:.0%} in conflict (below 0)"
    )
    axis.tick_params(colors=INK, labelsize=8, length=0)
    axis.spines[:].set_visible(False)


def _mean(series: Mapping[int, float], steps: NDArray[np.int64]) -> float:
    known = [series[step] for step in steps.tolist() if step in series]
    return float(np.mean(known)) if known else float("nan")


def _lines(axis: Axes, values: Curves, title: str, *, log: bool) -> None:
    for number, (name, series) in enumerate(sorted(values.items())):
        label = short_label(name, number)
        point = "o" if len(series) == 1 else None  # a line of one point can't be seen
        steps, numbers = list(series), list(series.values())
        axis.plot(steps, numbers, marker=point, label=label, lw=1.3, **line_style(number))
    if log and all(value > 0 for series in values.values() for value in series.values()):
        axis.set_yscale("log")
    write_title(axis, title)
    if values:  # a legend of more than two lines would hide them
        handles, labels = axis.get_legend_handles_labels()
        axis.legend(handles[:8], labels[:8], fontsize=8, frameon=False, loc="upper right", ncols=4)
    clean(axis)


Gates = Mapping[str, Curves]  # {task: {source: {step: weight}}}
_TITLES = {
    "gate": "what each task takes at the end",
    "source": "what each task takes from sources at the end",
    "attention": "how alike tasks look at their rows at the end",
}
_GATE_COLUMNS = 3  # of the curves
_MOST_NUMBERS = 400  # written into cells
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
    found: dict[str, dict[str, Series]] = defaultdict(dict)
    for name, series in _below(points, f"{kind}/")[0].items():
        task, _, source = name.partition("/")
        found[task][source] = series
    if not found:
        return False
    tasks = sorted(found)[:_MOST_SMALL]
    sources = list(dict.fromkeys(source for task in tasks for source in found[task]))[:_MOST_SMALL]
    drawn = tasks[:_MOST_TASKS]
    lines = -(-len(drawn) // _GATE_COLUMNS)
    heights = [1.6 + 0.34 * len(tasks), 0.4 + 2.0 * lines]
    figure = new_figure(max(9.0, 2.5 + 0.62 * len(sources)), sum(heights))
    parts: Any = figure.subfigures(2, 1, height_ratios=heights)  # typed as one or several
    top, bottom = parts
    _gate_map(top.subplots(), found, tasks, sources, _TITLES[kind])
    axes = bottom.subplots(lines, _GATE_COLUMNS, squeeze=False, sharex=True, sharey=True).flatten()
    for axis, task in zip(axes, drawn, strict=False):
        _gate_curves(axis, task, found[task], sources)
    for axis in axes[len(drawn) :]:
        axis.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    bottom.legend(handles, labels, fontsize=8, frameon=False, ncols=6, loc="outside lower center")
    write(figure, path)
    return True


def _gate_map(
    axis: Axes, found: Gates, tasks: Sequence[str], sources: Sequence[str], title: str
) -> None:
    table = np.array([[_last(found[task].get(source, {})) for source in sources] for task in tasks])
    most = max(1.0, float(np.nanmax(np.abs(table))))
    axis.imshow(np.ma.masked_invalid(table), cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value) and table.size <= _MOST_NUMBERS:
            colour = "white" if abs(value) > 0.6 * most else INK
            text = f"{value:.2f}"
            axis.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    slant: dict[str, Any] = {**SLANT}
    axis.set_xticks(
        range(len(sources)), [short_label(s, n) for n, s in enumerate(sources)], **slant
    )
    axis.set_yticks(range(len(tasks)), [short_label(task, n) for n, task in enumerate(tasks)])
    axis.tick_params(colors=INK, labelsize=8, length=0)
    axis.spines[:].set_visible(False)
    write_title(axis, title)


def _gate_curves(axis: Axes, task: str, weights: Curves, sources: Sequence[str]) -> None:
    for number, source in enumerate(sources):
        series = weights.get(source, {})
        label = short_label(source, number)
        axis.plot(list(series), list(series.values()), label=label, lw=1.3, **line_style(number))
    axis.set_title(short_label(task, 0), loc="left", fontsize=9.5, color=INK)
    axis.set_xlabel("optimizer steps", fontsize=8, color=INK)
    clean(axis)
    axis.tick_params(labelbottom=True)  # also where no picture is below


def _last(series: Mapping[int, float]) -> float:
    return series[max(series)] if series else float("nan")


_ROUNDS = "fork_merge/"


def plot_fork_merge(points: Iterable[MetricPoint], path: Path) -> bool:
    """Draw each round's coefficients, and by task the scores of branches and of their merge.

    A round that was rolled back is pale and crossed.

    Args:
        points: a run's history, keys ``fork_merge/...``; others are left out.
        path: of the PNG.

    Returns:
        Whether there was anything to draw.
    """
    (found,) = _below(points, _ROUNDS)
    accepted = found.pop("accepted", {})
    if not accepted:
        return False
    coefficients = _of(found, "coefficient/")
    tasks = sorted({name.partition("/")[2] for name in _of(found, "score/")})[:_MOST_TASKS]
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


def _of(found: Curves, prefix: str) -> dict[str, Series]:
    return {n.removeprefix(prefix): series for n, series in found.items() if n.startswith(prefix)}


def _draw_coefficients(axis: Axes, coefficients: Curves, accepted: Series) -> None:
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
    write_title(axis, "coefficients of each round; x: rolled back")
    axis.set_ylim(0, 1)
    axis.legend(fontsize=8, frameon=False, ncols=6, loc="upper left", bbox_to_anchor=(0, -0.12))
    clean(axis)


def _draw_task(axis: Axes, task: str, found: Curves, branches: list[str], accepted: Series) -> None:
    numbers = {step: number for number, step in enumerate(sorted(accepted), start=1)}
    for number, branch in enumerate(branches):
        series = found.get(f"score/{branch}/{task}", {})
        places = [numbers[step] for step in series]
        axis.plot(places, list(series.values()), "o", color=COLOURS[number % len(COLOURS)], ms=3.5)
    kept = found.get(f"kept/{task}", {})
    axis.plot(
        [numbers[step] for step in kept], list(kept.values()), color=INK, lw=1.5, label="kept"
    )
    write_title(axis, f"{short_label(task, 0)}  ·  validation score")
    axis.set_xlabel("round", fontsize=8.5, color=INK)
    axis.legend(fontsize=8, frameon=False)
    clean(axis)
