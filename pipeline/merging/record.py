"""What the tracker is told about a merge."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from datamodules.mixed import MixedDataModule
from lightning_modules.callbacks.measure import stage_metrics
from lightning_modules.merging.bench import Bench
from pipeline import record
from pipeline.checkpoints import BEST
from pipeline.merging.report import MergeSummary
from pipeline.merging.scoring import Scored
from pipeline.plots.confusion import confusion_matrix
from pipeline.runs import RunFolder
from pipeline.serving.folder import export
from pipeline.tracking.run_logger import RunLogger

COEFFICIENTS = "coefficients.json"


def record_start(
    tracker: RunLogger,
    config: Mapping[str, Any],
    folder: RunFolder,
    datamodule: MixedDataModule | None,
    summary: MergeSummary,
) -> None:
    """Record configuration, models, coefficients and data sets."""
    if datamodule is None:
        tracker.log_params(config)
        tracker.log_artifact(folder.config)
    else:
        record.record_start(tracker, config, folder, datamodule)
    known = {f"parent.{one['label']}": one for one in summary.parents}
    known |= {"base": summary.base} if summary.base else {}
    tags = {
        f"{where}.{key}": one[key]
        for where, one in known.items()
        for key in ("path", "run_id", "checksum")
        if one[key] is not None
    }
    parents = [one["run_id"] or one["path"] for one in summary.parents]
    tracker.set_tags({**tags, "pollinate.parents": parents})
    simple = {
        name: value
        for name, value in summary.coefficients.items()
        if not isinstance(value, Mapping | list)
    }
    tracker.log_params({"coefficients": simple} if simple else {})
    path = folder.path / COEFFICIENTS
    path.write_text(json.dumps(summary.coefficients, indent=2) + "\n", encoding="utf-8")
    tracker.log_artifact(path)


def record_result(
    tracker: RunLogger,
    config: Mapping[str, Any],
    folder: RunFolder,
    bench: Bench,
    scored: Scored | None,
    summary: MergeSummary,
) -> None:
    """Record scores, confusion matrices, the checkpoint and the model."""
    if scored is not None:
        module = bench.module
        metrics: dict[str, float] = {}
        for split, numbers in scored.result.items():
            metrics |= stage_metrics(module, split, numbers)
        for parent, own in zip(summary.parents, scored.models, strict=True):
            for split, numbers in own.items():
                named = stage_metrics(module, split, numbers)
                metrics |= {f"parent/{parent['label']}/{name}": v for name, v in named.items()}
        tracker.log_metrics(metrics, step=0)
        folder.plots.mkdir(exist_ok=True)
        for task, matrix in scored.matrices.items():
            path = folder.plots / f"confusion-{task}.png"
            confusion_matrix(matrix.numpy(), module.tasks[task].classes, task, path)
            tracker.log_artifact(path, "plots")
    tracker.log_artifact(folder.checkpoints / BEST, "checkpoints")
    export(folder.checkpoints / BEST, folder.model, config["allow_targets"])
    tracker.log_model(folder.model, "model")
