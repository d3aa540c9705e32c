"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.plots.figure_style import (
    INK,
    SLANT,
    clean,
    is_drawable,
    new_figure,
    write,
    write_title,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BAR = "#1f6feb"
_MOST_CLASSES = 30  # more cannot be read
_MOST_PAIRS = 20


def plot_confusion_matrix(
    matrix: NDArray[Any], labels: Sequence[str], title: str, path: Path
) -> None:
    """Draw how often each class was taken for each other one.

    Args:
        matrix: (C, C) counts, row = true class, column = predicted class.
        labels: C names of classes; one whose script the font lacks is drawn as its number. Above
            30 classes only the most frequent confusions are drawn.
        title: above the picture.
        path: of the PNG.
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
    write(figure, path)


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


def _pairs_figure(matrix: NDArray[Any], names: list[str], title: str) -> Figure:
    wrong = matrix - np.diag(np.diag(matrix))
    pairs = [divmod(int(i), len(names)) for i in np.argsort(-wrong, axis=None, kind="stable")]
    pairs = [(row, column) for row, column in pairs[:_MOST_PAIRS] if wrong[row, column] > 0]
    figure = new_figure(7.5, 1.5 + 0.28 * max(len(pairs), 1))
    axis = figure.subplots()
    counts = [int(wrong[pair]) for pair in pairs]
    bars = axis.barh(range(len(pairs)), counts, color=_BAR, height=0.68)
    totals = matrix.sum(axis=1)
    notes = [
        f"{n:,}  ({n / totals[row]:.0%} of {names[row]})"
        for n, (row, _) in zip(counts, pairs, strict=True)
    ]
    axis.bar_label(bars, notes, padding=4, fontsize=8, color=INK)
    axis.set_yticks(range(len(pairs)), [f"{names[r]} → {names[c]}" for r, c in pairs], fontsize=8.5)
    axis.invert_yaxis()
    axis.margins(x=0.32, y=0.02)
    axis.set_xlabel("rows, true class → predicted class", fontsize=8.5, color=INK)
    head = f"{title}: most frequent confusions of {len(names)} classes"
    write_title(axis, f"{head}\n{_accuracy(matrix)}")
    clean(axis)
    axis.grid(visible=False, axis="y")
    return figure


def _short(count: int) -> str:
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k"
