"""What each source did for each target."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pipeline.plots.figure_style import INK
from pipeline.studies.analysis.estimates import IntervalEstimate, TransferGain
from pipeline.studies.report.charts.panel import WIDE, Chart, Hover, Panel
from pipeline.studies.report.report_data import PERCENT, ReportSubject, ScoreUnit, estimate_text
from pipeline.studies.results import ArmKind

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Cells = Mapping[tuple[str, str], TransferGain]  # {(source, target): transfer}
TITLES: dict[ArmKind, str] = {
    "pair": "trained together",
    "transfer": "begun from the source's model",
}
MARKS = {"weak": " \u25bd", "strong": " \u25bc", "none": "", "unclear": ""}
CELL, EDGE = 58, 110  # pixels of a cell, and of the names beside
CAPTION = (
    "Change of the target (column) by each source (row), in {unit}; purple gains, "
    "orange loses. \u25bd weak negative transfer: it loses; \u25bc strong: it loses at every "
    "weight tried. In brackets: it may be chance."
)


def transfer_chart(subject: ReportSubject) -> Chart | None:
    unit = unit_of_all(subject)
    found: dict[ArmKind, dict[tuple[str, str], TransferGain]] = defaultdict(dict)
    for transfer in subject.answers.transfers:
        arm = subject.results.arms.get(transfer.arm)
        if arm is not None and shown(transfer, unit) is not None:
            pair = transfer.source, transfer.target
            # of several weights of the losses, equal ones stand for the pair
            found[arm.kind][pair] = found[arm.kind].get(pair, transfer) if arm.weights else transfer
    panels = []
    for kind, cells in found.items():
        tasks = [task for task in subject.tasks if any(task in pair for pair in cells)]
        size = len(tasks)
        panels.append(
            Panel(
                TITLES.get(kind, kind),
                partial(draw, cells, tasks, unit),
                height=60 + 38 * size,
                width=max(WIDE, EDGE + CELL * size),
            )
        )
    words = unit.word.strip() if unit is not PERCENT else "% of the single-task score"
    caption = CAPTION.format(unit=words or "the score's own unit")
    return Chart("transfers", "Which task helps which", caption, panels) if panels else None


def unit_of_all(subject: ReportSubject) -> ScoreUnit:
    units = {subject.units[t.target] for t in subject.answers.transfers}
    return units.pop() if len(units) == 1 else PERCENT


def draw(cells: Cells, tasks: Sequence[str], unit: ScoreUnit, axis: Axes, hover: Hover) -> None:
    from matplotlib import colormaps

    estimates = {key: shown(transfer, unit) for key, transfer in cells.items()}
    values = {key: found.mean for key, found in estimates.items() if found is not None}
    most = max(map(abs, values.values())) or 1.0
    scale = colormaps["PuOr"]
    for (source, target), transfer in cells.items():
        row, column = tasks.index(source), tasks.index(target)
        share = values[source, target] / most
        colour = scale(0.5 + share * 0.42)
        (cell,) = axis.barh(row, 0.94, 0.9, column - 0.47, color=colour)
        told = (
            f"{estimate_text(estimates[source, target], unit, sign=True)}, {transfer.gain.verdict}"
        )
        hover.add(cell, f"{source} to {target}: {told}")
        text = unit.number(values[source, target], sign=True)
        text = f"({text})" if transfer.gain.verdict == "unclear" else text
        axis.text(
            column, row, text + MARKS[transfer.negative],
            ha="center", va="center", fontsize=10,
            color="#fefefe" if brightness(colour) < 0.45 else "#1f2329",
        )  # fmt: skip
    names = [task if len(task) < 15 else f"{task[:13]}…" for task in tasks]
    wide = max(map(len, names)) * 7 > CELL + 10
    turn = {"rotation": 35, "ha": "left", "rotation_mode": "anchor"} if wide else {}
    axis.set_xticks(range(len(tasks)), names, **turn)  # type: ignore[arg-type]  # of several types
    axis.set_yticks(range(len(tasks)), names)
    axis.xaxis.tick_top()
    axis.set_xlim(-0.5, len(tasks) - 0.5)
    axis.set_ylim(len(tasks) - 0.5, -0.5)
    axis.set_ylabel("source", color=INK, fontsize=10)
    axis.set_xlabel("target", color=INK, fontsize=10)
    axis.tick_params(length=0, colors=INK, labelsize=10)
    axis.spines[:].set_visible(False)


def brightness(colour: tuple[float, float, float, float]) -> float:
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


def shown(transfer: TransferGain, unit: ScoreUnit) -> IntervalEstimate | None:
    return transfer.gain.relative if unit is PERCENT else transfer.gain.difference
