"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightning_modules.tasks.class_metrics import ConfusionCounts, Confusions
from pipeline.plots.figure_style import (
    INK,
    SLANT,
    clean,
    is_drawable,
    new_figure,
    short_label,
    write,
    write_title,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BAR = "#1f6feb"
_MOST_CLASSES = 30  # more cannot be read
_MOST_PAIRS = 20
_MOST_SMALL = 60  # tasks whose matrices are drawn small
_SMALL_COLUMNS = 6


def plot_confusion_matrix(
    confusions: ConfusionCounts, labels: Sequence[str], title: str, path: Path
) -> None:
    """Draw how often each class was taken for each other one.

    Args:
        confusions: (C, C) counts, row = true class, column = predicted class, or those of many
            classes.
        labels: C names of classes; one whose script the font lacks is drawn as its number. Above
            30 classes only the most frequent confusions are drawn.
        title: above the picture.
        path: of the PNG.
    """
    count = len(labels)
    if isinstance(confusions, Tensor) and confusions.shape != (count, count):
        found = tuple(confusions.shape)
        raise ValueError(f"matrix must be ({count}, {count}), got {found}")
    if isinstance(confusions, Tensor) and count <= _MOST_CLASSES:
        figure = _matrix_figure(confusions.numpy(), _class_names(labels, range(count)), title)
    else:
        figure = _pairs_figure(_as_confusions(confusions), labels, title)
    write(figure, path)


def plot_small_confusions(
    confusions: Mapping[str, ConfusionCounts], labels: Mapping[str, Sequence[str]], path: Path
) -> None:
    """Draw the confusions of many tasks in one picture, without counts.

    Args:
        confusions: {task: as for ``plot_confusion_matrix``}; 60 of them are drawn.
        labels: {task: names of classes}.
        path: of the PNG.
    """
    tasks = list(confusions)[:_MOST_SMALL]
    lines = -(-len(tasks) // _SMALL_COLUMNS)
    figure = new_figure(2.1 * _SMALL_COLUMNS, 0.5 + 2.3 * lines)
    axis = figure.subplots()
    for place, task in enumerate(tasks):
        line, column = divmod(place, _SMALL_COLUMNS)
        left, top = 1.0 * column, 1.1 * line
        found = _as_confusions(confusions[task])
        head = f"{short_label(task, place, 22)}\n{_right_share(found):.1%} correct"
        axis.text(left + 0.05, top + 0.09, head, va="center", fontsize=7.5, color=INK)
        matrix = confusions[task]
        if isinstance(matrix, Tensor) and len(labels[task]) <= _MOST_CLASSES:
            shares = matrix / matrix.sum(dim=1, keepdim=True).clamp(min=1)
            extent = (left + 0.05, left + 0.95, top + 1.05, top + 0.2)
            axis.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1, extent=extent)
        else:
            text = "\n".join(_pair_lines(found, labels[task], 8))
            axis.text(left + 0.05, top + 0.23, text, va="top", fontsize=6.5, color=INK)
    axis.set_xlim(0, _SMALL_COLUMNS)
    axis.set_ylim(1.1 * lines, 0)
    axis.set_aspect("auto")
    axis.set_axis_off()
    more = f", {len(tasks)} of {len(confusions)} tasks" if len(tasks) < len(confusions) else ""
    write_title(axis, f"rows: true class, columns: predicted class{more}")
    write(figure, path)


def _class_names(labels: Sequence[str], numbers: Iterable[int]) -> list[str]:
    """Return what a picture calls some classes."""
    short = {n: str(labels[n]) for n in numbers}
    short = {n: name if len(name) <= 18 else f"{name[:17]}…" for n, name in short.items()}
    return [name if is_drawable(name) else f"class {n}" for n, name in short.items()]


def _as_confusions(confusions: ConfusionCounts) -> Confusions:
    return Confusions.of_matrix(confusions) if isinstance(confusions, Tensor) else confusions


def _right_share(found: Confusions) -> float:
    return float(found.right.sum() / found.wanted.sum().clamp(min=1))


def _pair_lines(found: Confusions, labels: Sequence[str], most: int) -> list[str]:
    """Return ``cat → dog 12`` of the most frequent confusions."""
    lines = []
    for true, predicted, rows in found.pairs[:most].tolist():
        one, other = _class_names(labels, (true, predicted))
        lines.append(f"{one} → {other}  {rows:,}")
    return lines


def _accuracy(matrix: NDArray[Any]) -> str:
    total = int(matrix.sum())
    share = f"{np.trace(matrix) / total:.1%} correct" if total else "no rows"
    return f"{share}  ·  {total:,} rows"


def _matrix_figure(matrix: NDArray[Any], names: list[str], title: str) -> Figure:
    count = len(names)
    widest = 0.085 * max(map(len, names))  # inches, about
    cell = 0.95 if count <= 5 else 0.62 if count <= 12 else 0.42
    margin = 1.3 + widest
    figure = new_figure(cell * count + margin + 0.6, cell * count + margin + 0.3)
    axis = figure.subplots()
    sums = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(sums, 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 9.0 if count <= 12 else 7.0
    for row, column in np.argwhere(matrix > 0):
        colour = "white" if shares[row, column] > 0.55 else INK
        text = _short(int(matrix[row, column]))
        axis.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
    turn: dict[str, Any] = {} if widest < cell else {**SLANT}
    axis.set_xticks(range(count), names, fontsize=size, **turn)
    axis.set_yticks(range(count), names, fontsize=size)
    axis.set_xlabel("predicted", color=INK)
    axis.set_ylabel("true", color=INK)
    axis.tick_params(length=0, colors=INK)
    axis.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axis.grid(which="minor", color="white", linewidth=1.2)
    axis.tick_params(which="minor", length=0)
    axis.spines[:].set_visible(False)
    write_title(axis, f"{title}\n{_accuracy(matrix)}")
    return figure


def _pairs_figure(found: Confusions, labels: Sequence[str], title: str) -> Figure:
    pairs = found.pairs[:_MOST_PAIRS].tolist()
    figure = new_figure(7.5, 1.5 + 0.28 * max(len(pairs), 1))
    axis = figure.subplots()
    bars = axis.barh(range(len(pairs)), [rows for _, _, rows in pairs], color=_BAR, height=0.68)
    least = "at least " if found.missed else ""
    names = [_class_names(labels, (true, predicted)) for true, predicted, _ in pairs]
    notes = [
        f"{least}{rows:,}  ({rows / int(found.wanted[true]):.0%} of {name})"
        for (true, _, rows), (name, *_) in zip(pairs, names, strict=True)
    ]
    axis.bar_label(bars, notes, padding=4, fontsize=8, color=INK)
    axis.set_yticks(range(len(pairs)), [f"{one} → {other}" for one, other in names], fontsize=8.5)
    axis.invert_yaxis()
    axis.margins(x=0.32, y=0.02)
    axis.set_xlabel("rows, true class → predicted class", fontsize=8.5, color=INK)
    total = int(found.wanted.sum())
    share = f"{_right_share(found):.1%} correct" if total else "no rows"
    head = f"{title}: most frequent confusions of {len(labels)} classes"
    write_title(axis, f"{head}\n{share}  ·  {total:,} rows")
    clean(axis)
    axis.grid(visible=False, axis="y")
    return figure


def _short(count: int) -> str:
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k"
