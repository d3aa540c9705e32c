"""What sharing changed, by task and arm, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from pipeline.plots.figure_style import INK, label_axis
from pipeline.studies.analysis.estimates import Change, IntervalEstimate
from pipeline.studies.report.charts.panel import VERDICTS, Chart, Hover, Panel
from pipeline.studies.report.report_data import PERCENT, ReportSubject, ScoreUnit, estimate_text
from pipeline.studies.results import Arm

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 16  # arms of a panel
LINE, FRAME = 21, 54  # pixels of an arm, and of the axis
LONGEST = 24  # characters of a name
Bar = tuple[str, Change, IntervalEstimate]  # arm, its change, what of it is drawn

CAPTION = (
    "Difference to each single-task run, mean over seeds with its 95 % interval. Filled blue: it "
    "helped, filled orange: it hurt (corrected for all comparisons); hollow: it may be chance."
)


def change_chart(subject: ReportSubject) -> Chart | None:
    compared = subject.compared()
    panels = []
    means: list[Bar] = [
        (c.arm, c.delta_m, c.delta_m.difference)
        for c in compared
        if len(c.changes) > 1 and c.delta_m is not None
    ]
    if means:
        panels.append(
            change_panel("mean over an arm's tasks (delta_m)", means, PERCENT, "% of single-task")
        )
    for task, unit in subject.units.items():
        bars: list[Bar] = [
            (named(subject.results.arms[c.arm], task), c.changes[task], c.changes[task].difference)
            for c in compared
            if task in c.changes
        ]
        if bars:
            panels.append(change_panel(task, bars, unit, subject.axis_label(task)))
    many = len(compared) > MOST
    caption = CAPTION + (f" At most {MOST} arms are drawn; the table has all." if many else "")
    return Chart("changes", "What sharing changed", caption, panels) if panels else None


def named(arm: Arm, task: str) -> str:
    """Return an arm's name in a task's own panel: ``with b`` for pair:a+b, ``from b``."""
    if arm.kind == "pair" and not arm.weights:
        return f"with {next(other for other in arm.tasks if other != task)}"
    return f"from {arm.source}" if arm.source is not None else arm.name


def middle_cut(name: str, most: int) -> str:
    """Return a name of at most so many characters, both ends kept."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"


def change_panel(title: str, bars: Sequence[Bar], unit: ScoreUnit, label: str) -> Panel:
    shown = bars[:MOST]
    return Panel(title, partial(draw, shown, unit, label), FRAME + LINE * len(shown))


def draw(bars: Sequence[Bar], unit: ScoreUnit, label: str, axis: Axes, hover: Hover) -> None:
    for place, (arm, change, found) in enumerate(bars):
        colour = VERDICTS[change.verdict]
        (bar,) = axis.barh(place, unit.factor * found.mean, 0.62, color=colour, edgecolor=colour)
        bar.set_fill(change.verdict != "unclear")
        hover.add(bar, f"{arm}: {estimate_text(found, unit, sign=True)}, {change.verdict}")
        if found.low is not None and found.high is not None:
            ends = [unit.factor * found.low, unit.factor * found.high]
            axis.plot(ends, [place, place], color=INK, linewidth=1.3, solid_capstyle="butt")
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.set_yticks(range(len(bars)), [middle_cut(bar[0], LONGEST) for bar in bars])
    axis.set_ylim(len(bars) - 0.4, -0.6)
    axis.margins(x=0.08)
    axis.locator_params(axis="x", nbins=5)
    label_axis(axis, label.strip())
    axis.grid(visible=False, axis="y")
