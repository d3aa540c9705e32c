"""Charts of panels: one source for the page's SVG and the files' PNG.

Colours are told apart by people who can't tell red from green (Okabe and Ito 2008)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from pipeline.plots.figure_style import GRID, INK, is_drawable, new_figure
from pipeline.studies.results import Arm

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


HELPED, HURT, UNCLEAR = "#0072b2", "#d55e00", "#8b949e"
OTHERS = ("#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#9a7d0a", "#6f4e9c")
VERDICTS = {"helped": HELPED, "hurt": HURT, "unclear": UNCLEAR}


def colours_of(arms: Iterable[Arm]) -> dict[str, str]:
    """Return {arm: colour}: grey single-task, blue multi-task, each other one its own."""
    known: dict[str, str] = {"single_task": UNCLEAR, "multi_task": HELPED}
    others = cycle(OTHERS)
    return {arm.name: known.get(arm.kind) or next(others) for arm in arms}


Place = tuple[float, float]
Box = tuple[float, float, float, float]  # left, bottom, right, top

CHARACTER, LINE, GAP = 6.3, 14.0, 8.0  # pixels of a letter, a line, and from a mark to its name
SIDES = (
    ("center", 1.0), ("right", 1.0), ("left", 1.0), ("left", 0.0),
    ("right", 0.0), ("center", -1.0), ("left", -1.0), ("right", -1.0),
)  # fmt: skip
Offset = tuple[str, float, float]  # horizontal alignment, pixels to the right, pixels up


def placed_names(
    marks: Mapping[str, Place], names: Sequence[str], size: Place
) -> dict[str, Offset]:
    """Return where each name goes: the first side on which it covers no mark and no name."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in marks.values()]
    found: dict[str, Offset] = {}
    for name in names:
        for side, up in SIDES:
            box = box_of(marks[name], len(name) * CHARACTER, side, up)
            inside = box[0] >= 0 and box[1] >= 0 and box[2] <= size[0] and box[3] <= size[1]
            if inside and not any(overlap(box, other) for other in taken):
                taken.append(box)
                right = {"left": GAP, "right": -GAP, "center": 0.0}[side]
                found[name] = side, right if not up else right / 2, up * 0.9 * LINE
                break
    return found


def box_of(mark: Place, width: float, side: str, up: float) -> Box:
    x, y = mark[0], mark[1] + up * 0.9 * LINE
    shift = GAP if not up else GAP / 2
    left = {"left": x + shift, "right": x - shift - width, "center": x - width / 2}[side]
    return left, y - LINE / 2, left + width, y + LINE / 2


def overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


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


def add_key(figure: Figure, key: dict[str, str]) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=colour, linewidth=2) for colour in key.values()]
    figure.legend(
        lines, [short(name) for name in key], loc="outside lower center", ncols=6, frameon=False
    )


def short(name: str, most: int = 30) -> str:
    """Return a name that fits, without what matplotlib's font lacks."""
    text = "".join(c if c.isprintable() and is_drawable(c) else "\u25a1" for c in name)
    return text if len(text) <= most else f"{text[: most - 1]}…"


COLOURS = {
    INK: "var(--ink)",
    GRID: "var(--line)",
    HELPED: "var(--helped)",
    HURT: "var(--hurt)",
}
FONT = re.compile(r"font-family: [^;\"]*;?")
HEAD = re.compile(r"^.*?<svg[^>]*?>", re.DOTALL)
META = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
IDS = re.compile(r"(\bid=\"|href=\"#|url\(#)")


def svg(panel: Panel, number: int) -> Markup:
    hover, text = Hover(), StringIO()
    with drawing(str(number)):
        figure = new_figure(panel.width / UNIT, panel.height / UNIT)
        panel.draw(figure.subplots(), hover)
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return fitted(text.getvalue(), panel, hover, number)


def fitted(text: str, panel: Panel, hover: Hover, number: int) -> Markup:
    """Return matplotlib's SVG without its head, with the page's colours, ids of its own, titles."""
    body = META.sub("", HEAD.sub("", text, count=1))
    body = IDS.sub(rf"\g<1>p{number}-", FONT.sub("", body))
    for colour, variable in COLOURS.items():
        body = body.replace(colour, variable)
    for name, words in hover.texts.items():
        start = f'<g id="p{number}-{name}">'
        body = body.replace(start, f"{start}<title>{escape(words)}</title>")
    size = f"width='{panel.width}' height='{panel.height}'"
    box = f"viewBox='0 0 {panel.width} {panel.height}'"
    return Markup(f"<svg role='img' aria-label='{escape(panel.title)}' {size} {box}>{body}")
