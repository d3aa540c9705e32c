"""How all pictures look."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GRID = "#24292f", "#e6e8eb"
COLOURS = ("#1f6feb", "#d1480f", "#1a7f37", "#8250df", "#bf8700", "#57606a", "#cf222e", "#0a7ea4")
SLANT = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}


def new_figure(width: float, height: float) -> Figure:
    """Return an empty white figure; sizes in inches."""
    from matplotlib.figure import Figure

    # no pyplot: it would keep every figure and choose a window system
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def clean(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(GRID)
    axis.grid(color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(colors=INK, labelsize=8, length=0)


def write_title(axis: Axes, text: str) -> None:
    axis.set_title(text, loc="left", fontsize=10.5, color=INK)


def label_axis(axis: Axes, x: str | None = None, y: str | None = None, size: int = 10) -> None:
    """Name the axes, and take away what is not data."""
    if x is not None:
        axis.set_xlabel(x, color=INK, fontsize=size)
    if y is not None:
        axis.set_ylabel(y, color=INK, fontsize=size)
    clean(axis)
    axis.tick_params(labelsize=size)


def line_style(number: int) -> dict[str, Any]:
    """Return colour and style of the n-th line of a picture; those beyond eight are dashed."""
    style = "-" if number < len(COLOURS) else "--"
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": style}


def write(figure: Figure, path: Path) -> None:
    """Write a PNG, and its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, format="png")


def short_label(name: str, number: int, longest: int = 24) -> str:
    """Return a name that a picture has room for; a number for one that the font lacks."""
    text = name if len(name) <= longest else f"{name[: longest - 1]}…"
    return text if is_drawable(text) else f"number {number}"


def is_drawable(text: str) -> bool:
    """Say whether matplotlib's own font has all characters, which it may not for Chinese, say."""
    return all(ord(character) in _characters() for character in text)


@cache
def _characters() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties())).get_charmap())
