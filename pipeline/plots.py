"""Pictures of a run: curves and confusion matrices, as PNG files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pipeline.tracking.points import Point

Series = dict[str, tuple[list[int], list[float]]]  # key -> steps, values

_SPLITS = {"train": "#9aa5b1", "valid": "#1f6feb", "test": "#d1480f"}
_INK, _GRID = "#24292f", "#e6e8eb"
_MOST_CLASSES = 30  # more cannot be read
_MOST_PAIRS = 20
_SLANT = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
_WINDOW = 30  # parts of a noisy curve over which it is averaged


def curves(points: Iterable[Point], path: Path) -> None:
    """Draw, for each task, the loss and the other metrics over the optimizer steps.

    Args:
        points: a run's history, keys ``split/task/metric``; others are left out.
        path: of the PNG.
    """
    tasks = _by_task(points)
    metrics = {task: _main_metrics(tasks[task]) for task in sorted(tasks)}
    columns = max((len(names) for names in metrics.values()), default=1)
    figure = _figure(4.6 * columns, 2.9 * max(len(metrics), 1))
    axes = figure.subplots(max(len(metrics), 1), columns, squeeze=False)
    for row, (task, names) in enumerate(metrics.items()):
        for column, axis in enumerate(axes[row]):
            if column < len(names):
                _draw_metric(axis, task, names[column], tasks[task])
            else:
                axis.set_axis_off()
    if not metrics:
        axes[0][0].text(0.5, 0.5, "no metrics of tasks yet", ha="center", color=_INK)
        axes[0][0].set_axis_off()
    _write(figure, path)


def _by_task(points: Iterable[Point]) -> dict[str, dict[str, Series]]:
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
    axis.set_title(f"{task}  ·  {metric}", loc="left", fontsize=10.5, color=_INK)
    axis.set_xlabel("optimizer steps", fontsize=8.5, color=_INK)
    axis.margins(x=0.02)
    handles, labels = axis.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: list(_SPLITS).index(labels[i]))
    axis.legend([handles[i] for i in order], [labels[i] for i in order], fontsize=8, frameon=False)
    _clean(axis)


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


def confusion_matrix(matrix: NDArray[Any], labels: Sequence[str], title: str, path: Path) -> None:
    """Draw how often each class was taken for each other one.

    Args:
        matrix: (C, C) counts, row = true class, column = predicted class.
        labels: C names of classes; one whose script the font lacks is drawn as its number. Above
            30 classes only the most frequent confusions are drawn.
        title: above the picture.
        path: of the PNG.

    Raises:
        ValueError: the matrix is not (C, C).
    """
    matrix = np.asarray(matrix)
    if matrix.shape != (len(labels), len(labels)):
        raise ValueError(f"matrix must be ({len(labels)}, {len(labels)}), got {matrix.shape}")
    short = [label if len(label) <= 18 else f"{label[:17]}…" for label in map(str, labels)]
    names = [name if is_drawable(name) else f"class {n}" for n, name in enumerate(short)]
    if len(names) <= _MOST_CLASSES:
        figure = _matrix_figure(matrix, names, title)
    else:
        figure = _pairs_figure(matrix, names, title)
    _write(figure, path)


def is_drawable(text: str) -> bool:
    """Say whether matplotlib's own font has all characters, which it may not for Chinese, say."""
    return all(ord(character) in _characters() for character in text)


@cache
def _characters() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties())).get_charmap())


def _accuracy(matrix: NDArray[Any]) -> str:
    total = int(matrix.sum())
    share = f"{np.trace(matrix) / total:.1%} correct" if total else "no rows"
    return f"{share}  ·  {total:,} rows"


def _matrix_figure(matrix: NDArray[Any], names: list[str], title: str) -> Figure:
    count = len(names)
    widest = 0.085 * max(map(len, names))  # inches, about
    cell = 0.95 if count <= 5 else 0.62 if count <= 12 else 0.42
    margin = 1.3 + widest
    figure = _figure(cell * count + margin + 0.6, cell * count + margin + 0.3)
    axis = figure.subplots()
    sums = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(sums, 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 9.0 if count <= 12 else 7.0
    for row, column in np.argwhere(matrix > 0):
        colour = "white" if shares[row, column] > 0.55 else _INK
        text = _short(int(matrix[row, column]))
        axis.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
    turn: dict[str, Any] = {} if widest < cell else {**_SLANT}
    axis.set_xticks(range(count), names, fontsize=size, **turn)
    axis.set_yticks(range(count), names, fontsize=size)
    axis.set_xlabel("predicted", color=_INK)
    axis.set_ylabel("true", color=_INK)
    axis.tick_params(length=0, colors=_INK)
    axis.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axis.grid(which="minor", color="white", linewidth=1.2)
    axis.tick_params(which="minor", length=0)
    axis.spines[:].set_visible(False)
    axis.set_title(f"{title}\n{_accuracy(matrix)}", loc="left", fontsize=10.5, color=_INK)
    return figure


def _pairs_figure(matrix: NDArray[Any], names: list[str], title: str) -> Figure:
    wrong = matrix - np.diag(np.diag(matrix))
    pairs = [divmod(int(i), len(names)) for i in np.argsort(-wrong, axis=None, kind="stable")]
    pairs = [(row, column) for row, column in pairs[:_MOST_PAIRS] if wrong[row, column] > 0]
    figure = _figure(7.5, 1.5 + 0.28 * max(len(pairs), 1))
    axis = figure.subplots()
    counts = [int(wrong[pair]) for pair in pairs]
    bars = axis.barh(range(len(pairs)), counts, color=_SPLITS["valid"], height=0.68)
    totals = matrix.sum(axis=1)
    notes = [
        f"{n:,}  ({n / totals[row]:.0%} of {names[row]})"
        for n, (row, _) in zip(counts, pairs, strict=True)
    ]
    axis.bar_label(bars, notes, padding=4, fontsize=8, color=_INK)
    axis.set_yticks(range(len(pairs)), [f"{names[r]} → {names[c]}" for r, c in pairs], fontsize=8.5)
    axis.invert_yaxis()
    axis.margins(x=0.32, y=0.02)
    axis.set_xlabel("rows, true class → predicted class", fontsize=8.5, color=_INK)
    head = f"{title}: most frequent confusions of {len(names)} classes"
    axis.set_title(f"{head}\n{_accuracy(matrix)}", loc="left", fontsize=10.5, color=_INK)
    _clean(axis)
    axis.grid(visible=False, axis="y")
    return figure


def _short(count: int) -> str:
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    # no pyplot: it would keep every figure and choose a window system
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def _clean(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(_GRID)
    axis.grid(color=_GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(colors=_INK, labelsize=8, length=0)


def _write(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, format="png")
