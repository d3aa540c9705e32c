"""Charts of panels: one source for the page's SVG and the files' PNG."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.plots.style import INK, is_drawable, new_figure

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

WIDE = 340  # pixels of a panel, so that it fits the screen of a telephone
UNIT = 72.0  # an inch has 72 points: a point is a pixel of the page
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be searched, read aloud and zoomed
    "text.parse_math": False,  # a dollar in a task's name is a dollar
    "font.size": 11,
}
MOST_COLUMNS = 3  # of a PNG
TITLE = 24  # pixels of a title, which in the page is text of its own


@dataclass
class Panel:
    """A small picture.

    title: above it; draw: onto its axes; width, height: in pixels.
    """

    title: str
    draw: Callable[[Axes, Hover], None]
    height: int
    width: int = WIDE


@dataclass
class Chart:
    """Panels of one kind.

    name: of its file; title, caption: HTML is made of them, names in backticks.
    key: {label: (colour, line style or marker)} of the lines.
    """

    name: str
    title: str
    caption: str
    panels: list[Panel]
    key: dict[str, str] = field(default_factory=dict)


class Hover:
    """Texts that are shown when the pointer rests on a mark."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def add(self, artist: Artist, text: str) -> None:
        """Give a mark its text."""
        name = f"hover-{len(self.texts)}"
        artist.set_gid(name)
        self.texts[name] = text


@contextmanager
def drawing(salt: str = "") -> Iterator[None]:
    """Set what matplotlib needs for names of strangers; the salt goes into ids of SVG."""
    import warnings

    import matplotlib as mpl

    with mpl.rc_context({**SETTINGS, "svg.hashsalt": salt}), warnings.catch_warnings():
        # the browser has fonts for what matplotlib's own lacks
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def write_png(chart: Chart, path: Path) -> None:
    """Draw a chart's panels beside and below each other."""
    columns = min(MOST_COLUMNS, len(chart.panels))
    rows: Sequence[list[Panel]] = [
        chart.panels[at : at + columns] for at in range(0, len(chart.panels), columns)
    ]
    width = max(sum(panel.width for panel in row) for row in rows)
    heights = [max(panel.height for panel in row) + TITLE for row in rows]
    with drawing():
        figure = new_figure(width / UNIT, (sum(heights) + 24 * bool(chart.key)) / UNIT)
        parts = figure.subfigures(len(rows), columns, squeeze=False, height_ratios=heights)
        for row, own in zip(parts, rows, strict=True):
            for part, panel in zip(row, own, strict=False):
                panel.draw(part.subplots(), Hover())
                title = short(panel.title, panel.width // 7)
                part.suptitle(title, x=0.02, ha="left", fontsize=12, color=INK)
        if chart.key:
            add_key(figure, chart.key)
        figure.savefig(path, dpi=144, format="png")


def add_key(figure: object, key: dict[str, str]) -> None:
    """Draw the key of lines below all panels."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    assert isinstance(figure, Figure)
    lines = [Line2D([], [], color=colour, linewidth=2) for colour in key.values()]
    figure.legend(
        lines, [short(name) for name in key], loc="outside lower center", ncols=6, frameon=False
    )


def short(name: str, most: int = 30) -> str:
    """Return a name that fits, without what matplotlib's font lacks."""
    text = "".join(c if c.isprintable() and is_drawable(c) else "\u25a1" for c in name)
    return text if len(text) <= most else f"{text[: most - 1]}…"
