"""What the tracker is told about a run besides its metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from datamodules.mixed import MixedDataModule
from datamodules.modalities.text import TextModality
from lightning_modules.multitask import MultiTaskModule
from pipeline.checkpoints import BEST, LAST, make_whole
from pipeline.plots.confusion import confusion_matrix
from pipeline.plots.curves import curves
from pipeline.plots.gates import gates
from pipeline.plots.gradients import gradients
from pipeline.plots.rounds import rounds
from pipeline.runs import RunFolder
from pipeline.serving.folder import export
from pipeline.tracking.points import Point, read_points
from pipeline.tracking.run_logger import RunLogger

TOKENIZER = "tokenizer.json"


def record_start(
    tracker: RunLogger, config: Mapping[str, Any], folder: RunFolder, datamodule: MixedDataModule
) -> None:
    """Record configuration, data sets and tokenizer."""
    tracker.log_params({name: value for name, value in config.items() if name != "run_dir"})
    tracker.log_artifact(folder.config)
    for name, loaded in datamodule.loaded.items():
        rows = {split: part[name].size for split, part in datamodule.parts.items()}
        spec = datamodule.datasets[name]
        tracker.log_dataset(name, loaded.digest, spec.source.location, rows, "training")
    text = datamodule.modalities.get("text")
    if isinstance(text, TextModality):
        text.tokenizer.save(folder.path / TOKENIZER)
        tracker.log_artifact(folder.path / TOKENIZER)


def record_end(
    tracker: RunLogger,
    config: Mapping[str, Any],
    folder: RunFolder,
    module: MultiTaskModule,
    matrices: Mapping[str, Tensor],
) -> None:
    """Draw the plots, keep the best checkpoint and the model."""
    tracker.flush()
    for path in draw(folder, module, matrices):
        tracker.log_artifact(path, "plots")
    best = folder.checkpoints / BEST
    checkpoint = best if best.exists() else folder.checkpoints / LAST
    make_whole(checkpoint)  # one file, which can be taken elsewhere
    tracker.log_artifact(checkpoint, "checkpoints")
    export(checkpoint, folder.model, config["allow_targets"])
    tracker.log_model(folder.model, "model")


def draw(folder: RunFolder, module: MultiTaskModule, matrices: Mapping[str, Tensor]) -> list[Path]:
    """Draw curves, gradients, what tasks take from where, confusion matrices; return them all."""
    folder.plots.mkdir(exist_ok=True)
    pictures = [folder.plots / "curves.png"]
    curves(read_points(folder.metrics), pictures[0])
    kinds = {"gates": "gate", "sources": "source", "attention": "attention"}
    named: dict[str, Callable[[Iterable[Point], Path], bool]] = {
        "gradients": gradients,
        "rounds": rounds,
    }
    for name, drawn in (named | {n: partial(gates, kind=k) for n, k in kinds.items()}).items():
        path = folder.plots / f"{name}.png"
        if drawn(read_points(folder.metrics), path):
            pictures.append(path)
    for task, matrix in matrices.items():
        path = folder.plots / f"confusion-{task}.png"
        confusion_matrix(matrix.numpy(), module.tasks[task].classes, task, path)
        pictures.append(path)
    return pictures
