"""Scores against what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pipeline.plots.figure_style import INK, label_axis
from pipeline.studies.analysis.estimates import CostPoint
from pipeline.studies.report.charts.panel import HELPED, UNCLEAR, Chart, Hover, Panel, placed_names
from pipeline.studies.report.report_data import PERCENT, ReportSubject
from pipeline.text_format import duration, format_bytes, format_scaled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 225
PLOT = (270.0, 175.0)  # pixels between the axes, about
MOST_NAMES = 9  # beside marks; of more only the front is named
Units = Sequence[tuple[float, str]]  # largest first
COSTS: dict[str, tuple[str, Callable[[float], str], Units]] = {
    "seconds": ("training time", duration, ((3600, "h"), (60, "min"), (1, "s"))),
    "parameters": (
        "weights",
        lambda value: format_scaled(value).strip(),
        ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")),
    ),
    "memory": ("memory", format_bytes, ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))),
}
CAPTION = (
    "Mean change over tasks (% of single-task) against what it costs. Filled and joined: nothing "
    "else is both better and cheaper. Means over seeds; small differences may be chance."
)


def pareto_chart(subject: ReportSubject) -> Chart | None:
    panels = []
    for cost, (title, *_) in COSTS.items():
        known = {p.arm: p for p in subject.answers.points if costs_of(p)[cost] is not None}
        if len(known) > 1:
            panels.append(Panel(title, partial(draw, list(known.values()), cost), HEIGHT))
    return Chart("pareto", "What a gain costs", CAPTION, panels) if panels else None


def costs_of(point: CostPoint) -> Mapping[str, float | None]:
    return {"seconds": point.seconds, "parameters": point.parameters, "memory": point.memory}


def draw(points: Sequence[CostPoint], cost: str, axis: Axes, hover: Hover) -> None:
    _, text, units = COSTS[cost]
    costs = {p.arm: float(costs_of(p)[cost] or 0) for p in points}
    factor, word = next((u for u in units if max(costs.values()) >= u[0]), units[-1])
    places = {p.arm: (costs[p.arm] / factor, 100 * p.delta_m) for p in points}
    front = sorted(places[p.arm] for p in points if p.front.get(cost))
    axis.step(
        [x for x, _ in front], [y for _, y in front], where="post", color=HELPED, lw=1.2, zorder=2
    )
    for point in points:
        x, y = places[point.arm]
        chosen = bool(point.front.get(cost))
        face, edge = (HELPED, HELPED) if chosen else ("none", UNCLEAR)
        (mark,) = axis.plot(x, y, "o", ms=8, mfc=face, mec=edge, mew=1.6, zorder=3)
        change = PERCENT.amount(point.delta_m, sign=True)
        hover.add(mark, f"{point.arm}: {change} for {text(costs[point.arm])}")
    axis.margins(x=0.16, y=0.16)
    cost_axis(axis, [x for x, _ in places.values()], word)
    axis.axhline(0, color=INK, linewidth=0.6)
    named = [p.arm for p in points if len(points) <= MOST_NAMES or p.front.get(cost)]
    name_marks(axis, sorted(named, key=lambda arm: -places[arm][1]), places)
    axis.locator_params(axis="y", nbins=6)
    label_axis(axis, y="mean change, %")


def cost_axis(axis: Axes, costs: Sequence[float], word: str) -> None:
    """Set ticks with units; from 0, or a log axis where costs differ by much."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    low, high = min(costs), max(costs)
    if low > 0 and high > 8 * low:
        axis.set_xscale("log")
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xticks([low, (low * high) ** 0.5, high])
    else:
        axis.set_xlim(0, 1.2 * high)  # costs that are about the same look so
        axis.locator_params(axis="x", nbins=4)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g} {word}"))


def name_marks(axis: Axes, named: Sequence[str], places: Mapping[str, tuple[float, float]]) -> None:
    to_axis = axis.transData + axis.transAxes.inverted()
    shares = {arm: to_axis.transform(place) for arm, place in places.items()}
    pixels = {arm: (PLOT[0] * x, PLOT[1] * y) for arm, (x, y) in shares.items()}
    for arm, (side, right, up) in placed_names(pixels, named, PLOT).items():
        axis.annotate(
            arm, places[arm], (right, up), textcoords="offset points",
            ha=side, va="center", fontsize=10, color=INK,
        )  # fmt: skip
