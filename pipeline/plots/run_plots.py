"""All plots of a run: each is drawn if the run's history has what it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from lightning_modules.evaluation_module import EvaluationModule
from lightning_modules.tasks.class_metrics import ConfusionCounts
from pipeline.plots.confusion import plot_confusion_matrix, plot_small_confusions
from pipeline.plots.figure_style import short_label
from pipeline.plots.history import (
    plot_fork_merge,
    plot_gate_weights,
    plot_gradient_cosines,
    plot_metric_curves,
)
from pipeline.run_folder import RunFolder
from pipeline.tracking.journals import MetricPoint, read_points
from pollinate.errors import PollinateError
from pollinate.files import file_name

# {name of the file: draws it, or says that the history has nothing of it}
PLOTS: Mapping[str, Callable[[Iterable[MetricPoint], Path], bool]] = {
    "curves": plot_metric_curves,
    "gradients": plot_gradient_cosines,
    "rounds": plot_fork_merge,
    "gates": partial(plot_gate_weights, kind="gate"),
    "sources": partial(plot_gate_weights, kind="source"),
    "attention": partial(plot_gate_weights, kind="attention"),
}


MOST_SINGLE = 6  # tasks whose confusions have a picture each


def draw_plots(
    folder: RunFolder, module: EvaluationModule, confusions: Mapping[str, ConfusionCounts]
) -> list[Path]:
    """Draw curves, gradients, what tasks take from where, confusions; return the pictures.

    Raises:
        PollinateError: some can't be drawn; all others are.
    """
    folder.plots.mkdir(exist_ok=True)
    points = list(read_points(folder.metrics))
    pictures, problems = [], []
    for name, draw in PLOTS.items():
        path = folder.plots / f"{name}.png"
        try:
            if draw(points, path):
                pictures.append(path)
        except Exception as error:  # noqa: BLE001  # another picture has nothing to do with it
            problems.append((path.name, error))
    try:
        pictures += draw_confusions(folder, module, confusions)
    except Exception as error:  # noqa: BLE001  # as above
        problems.append(("confusions", error))
    if problems:
        names = ", ".join(name for name, _ in problems)
        _, first = problems[0]
        raise PollinateError(f"{names} can't be drawn: {first}") from first
    return pictures


def draw_confusions(
    folder: RunFolder, module: EvaluationModule, confusions: Mapping[str, ConfusionCounts]
) -> list[Path]:
    """Draw a picture of each task's confusions, or one of all of them; return the pictures."""
    labels = {task: module.tasks[task].classes for task in confusions}
    if len(confusions) > MOST_SINGLE:
        path = folder.plots / "confusions.png"
        plot_small_confusions(confusions, labels, path)
        return [path]
    pictures = []
    for task, found in confusions.items():
        path = folder.plots / f"{file_name(f'confusion-{task}')}.png"
        plot_confusion_matrix(found, labels[task], short_label(task, 0, 60), path)
        pictures.append(path)
    return pictures
