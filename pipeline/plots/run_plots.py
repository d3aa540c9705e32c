"""All plots of a run: each is drawn if the run's history has what it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from lightning_modules.evaluation_module import EvaluationModule
from pipeline.plots.confusion import plot_confusion_matrix
from pipeline.plots.history import (
    plot_fork_merge,
    plot_gate_weights,
    plot_gradient_cosines,
    plot_metric_curves,
)
from pipeline.run_folder import RunFolder
from pipeline.tracking.journals import MetricPoint, read_points

# {name of the file: draws it, or says that the history has nothing of it}
PLOTS: Mapping[str, Callable[[Iterable[MetricPoint], Path], bool]] = {
    "gradients": plot_gradient_cosines,
    "rounds": plot_fork_merge,
    "gates": partial(plot_gate_weights, kind="gate"),
    "sources": partial(plot_gate_weights, kind="source"),
    "attention": partial(plot_gate_weights, kind="attention"),
}


def draw_plots(
    folder: RunFolder, module: EvaluationModule, matrices: Mapping[str, Tensor]
) -> list[Path]:
    """Draw curves, gradients, what tasks take from where, confusion matrices; return them all."""
    folder.plots.mkdir(exist_ok=True)
    pictures = [folder.plots / "curves.png"]
    plot_metric_curves(read_points(folder.metrics), pictures[0])
    for name, draw in PLOTS.items():
        path = folder.plots / f"{name}.png"
        if draw(read_points(folder.metrics), path):
            pictures.append(path)
    return pictures + draw_confusions(folder, module, matrices)


def draw_confusions(
    folder: RunFolder, module: EvaluationModule, matrices: Mapping[str, Tensor]
) -> list[Path]:
    """Draw each task's confusion matrix; return the pictures."""
    pictures = {task: folder.plots / f"confusion-{task}.png" for task in matrices}
    for task, path in pictures.items():
        plot_confusion_matrix(matrices[task].numpy(), module.tasks[task].classes, task, path)
    return list(pictures.values())
