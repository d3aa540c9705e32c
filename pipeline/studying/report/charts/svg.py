"""A panel as SVG inside a page, in the page's own font and colours, light or dark."""

from __future__ import annotations

import re
from html import escape
from io import StringIO

from pipeline.plots.style import GRID, INK, new_figure
from pipeline.studying.report.charts.colours import HELPED, HURT
from pipeline.studying.report.charts.panel import UNIT, Hover, Panel, drawing

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


def svg(panel: Panel, number: int) -> str:
    """Return a panel as HTML.

    Args:
        panel: to draw.
        number: of the panel in the page, which makes its ids unique.
    """
    hover, text = Hover(), StringIO()
    with drawing(str(number)):
        figure = new_figure(panel.width / UNIT, panel.height / UNIT)
        panel.draw(figure.subplots(), hover)
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return fitted(text.getvalue(), panel, hover, number)


def fitted(text: str, panel: Panel, hover: Hover, number: int) -> str:
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
    return f"<svg role='img' aria-label='{escape(panel.title)}' {size} {box}>{body}"
