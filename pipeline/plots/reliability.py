"""How often answers are right, by how sure they are, before and after calibration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lightning_modules.calibration.reliability import Reliability, reliability
from lightning_modules.tasks.base import Task
from lightning_modules.trust.stored import Trust
from lightning_modules.trust.task_trust import AnsweredRows
from pipeline.plots.figure_style import (
    COLOURS,
    GRID,
    label_axis,
    new_figure,
    short_label,
    write,
    write_title,
)

MOST = 12  # tasks that are drawn
COLUMNS = 4


def draw_reliability(
    tasks: Mapping[str, Task], trust: Trust, rows: Mapping[str, AnsweredRows], folder: Path
) -> list[Path]:
    """Draw the reliability diagram of each task; return the picture, none if there is nothing.

    Args:
        tasks: {name: task}; trust: their calibration.
        rows: {task: rows that took no part in calibration}.
        folder: of pictures.
    """
    drawn = {}
    for name, own in rows.items():
        if name not in trust.tasks or not len(own):
            continue
        outputs = {"before": own.output, "after": trust.tasks[name].calibrated(own.output)}
        target = tasks[name].metric_target(own.target)
        found = {
            when: reliability(*stated)
            for when, output in outputs.items()
            if (stated := tasks[name].scored_distribution(output, target)) is not None
        }
        if found:
            drawn[name] = found
    if not drawn:
        return []
    path = folder / "reliability.png"
    plot_reliability(drawn, path)
    return [path]


def plot_reliability(found: Mapping[str, Mapping[str, Reliability]], path: Path) -> None:
    """Draw {task: {when: reliability}}, of 12 tasks at most; on the diagonal what is said holds."""
    tasks = list(found)[:MOST]
    width = min(COLUMNS, len(tasks))
    lines = -(-len(tasks) // width)
    figure = new_figure(0.4 + 2.9 * width, 0.5 + 2.9 * lines)
    axes = figure.subplots(lines, width, squeeze=False).flat
    for place, (task, axis) in enumerate(zip(tasks, axes, strict=False)):
        axis.plot([0, 1], [0, 1], color=GRID, linewidth=1.5)
        for colour, (when, one) in zip(COLOURS, found[task].items(), strict=False):
            sizes = 6 + 60 * one.count / one.count.sum()
            axis.plot(one.said, one.found, color=colour, linewidth=1)
            axis.scatter(one.said, one.found, sizes, color=colour, label=f"{when}: {one.ece:.3f}")
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1)
        write_title(axis, short_label(task, place))
        label_axis(axis, "said", "found", 8)
        axis.legend(title="expected error", fontsize=7, title_fontsize=7, frameon=False)
    for axis in list(axes)[len(tasks) :]:
        axis.set_axis_off()
    write(figure, path)
