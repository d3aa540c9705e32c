"""Scores against the number of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pipeline.plots.figure_style import INK, label_axis
from pipeline.studies.analysis.estimates import IntervalEstimate, LabelSavings
from pipeline.studies.report.charts.panel import Chart, Hover, Panel, colours_of
from pipeline.studies.report.report_data import ReportSubject, ScoreUnit, estimate_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curves = Mapping[str, Sequence[tuple[int, IntervalEstimate]]]  # {arm: [(labels, score)]}
CAPTION = (
    "Test score against labelled training rows (log scale), with 95 % intervals. The dashed line "
    "is what the single-task run reaches with all labels; a diamond shows how many do as well."
)
MARKERS = "osv^DPX"
BESIDE = 1.012  # factor from an arm's intervals to the next one's, or they would hide each other


def label_chart(subject: ReportSubject) -> Chart | None:
    arms = subject.results.arms
    shown = [name for name in subject.answers.curves if name in arms]
    colours = colours_of(sorted((arms[name] for name in shown), key=lambda arm: arm.name))
    panels: list[Panel] = []
    key: dict[str, str] = {}
    for task, unit in subject.units.items():
        own = {
            arm: curves[task]
            for arm, curves in subject.answers.curves.items()
            if arm in colours and len(curves.get(task, ())) > 1
        }
        if not own:
            continue
        saved = [s for s in subject.answers.saved if s.task == task and s.arm in own]
        label = subject.axis_label(task)
        panels.append(Panel(task, partial(draw, own, saved, colours, unit, label), 200))
        key |= {
            "single_task" if arms[arm].kind == "single_task" else arm: colours[arm] for arm in own
        }
    return Chart("labels", "How many labels it takes", CAPTION, panels, key) if panels else None


def draw(
    curves: Curves,
    saved: Sequence[LabelSavings],
    colours: Mapping[str, str],
    unit: ScoreUnit,
    label: str,
    axis: Axes,
    hover: Hover,
) -> None:
    for place, (arm, curve) in enumerate(curves.items()):
        marker, aside = MARKERS[place % len(MARKERS)], BESIDE**place
        counts = [count for count, _ in curve]
        values = [unit.factor * found.mean for _, found in curve]
        axis.plot(counts, values, color=colours[arm], marker=marker, markersize=5, linewidth=1.8)
        for count, found in curve:
            if found.low is not None and found.high is not None:
                ends = [unit.factor * unit.within(end) for end in (found.low, found.high)]
                (bar,) = axis.plot([count * aside] * 2, ends, color=colours[arm], linewidth=1.2)
                hover.add(bar, f"{arm}: {estimate_text(found, unit)} with {count:,} labels")
    for one in saved:
        axis.axhline(unit.factor * one.accuracy, color=INK, linewidth=0.9, linestyle="--")
        if one.needed is not None:
            height = unit.factor * one.accuracy
            (mark,) = axis.plot(
                one.needed.mean, height, "D", color=colours[one.arm], markersize=8, mec=INK
            )
            hover.add(mark, f"{one.arm}: {one.needed.mean:,.0f} of {one.of:,} labels")
    count_axis(axis, sorted({count for curve in curves.values() for count, _ in curve}))
    label_axis(axis, "labels", label)


def count_axis(axis: Axes, counts: Sequence[int]) -> None:
    """Set a log axis whose ticks are the numbers of labels that were tried, where they fit."""
    from matplotlib.ticker import NullLocator

    axis.set_xscale("log")
    axis.xaxis.set_minor_locator(NullLocator())
    ticks: list[int] = []
    for count in counts:
        if not ticks or count >= ticks[-1] * (counts[-1] / counts[0]) ** 0.16:
            ticks.append(count)
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
