"""Calibrates a checkpoint after its training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lightning_modules.checkpoints import read_checkpoint, write_checkpoint
from lightning_modules.trust.stored import store_trust
from pipeline.calibration import Calibration, CollectedRows, calibrate
from pipeline.evaluation import evaluated_module, measure
from pollinate.errors import PollinateError, UsageError


def check_calibrated(output: str | None, checkpoint: Path, overwrite: bool) -> Path:
    """Return where the calibrated checkpoint goes, before anything is computed."""
    if output is None:
        return checkpoint
    path = Path(output).absolute()
    if path.is_dir():
        raise UsageError(f"output must be a file, such as calibrated.ckpt, got the folder {path}")
    if path.exists() and not overwrite:
        raise UsageError(f"output {path} is there already; choose another, or overwrite=true")
    if not path.parent.is_dir():
        raise PollinateError(f"output's folder {path.parent} doesn't exist; make it first")
    return path


def calibrate_checkpoint(
    checkpoint: Path,
    output: Path,
    coverage: float | None,
    batch_size: int,
    allow_targets: Sequence[str],
    console: Console,
) -> Calibration:
    """Answer the validation and test rows of a checkpoint's data, calibrate it, and write it.

    Args:
        checkpoint: of a run or a merge; output: where it goes with its calibration.
        coverage: that sets are to have wherever the model answers; None: only where asked.
        batch_size: rows at a time, >= 1.
        allow_targets: packages, besides our own, whose classes the checkpoint may name.
        console: where progress is shown.

    Raises:
        PollinateError: the checkpoint can't be read, its data changed since, or no task of it can
            be calibrated.
    """
    module, data, config = evaluated_module(checkpoint, batch_size, allow_targets, console)
    rows = CollectedRows()
    for split in [split for split in data.parts if split != "train"]:
        with rows.of(split, module, data):
            measure(module, data, split, config, console)
    found = calibrate(module.tasks, rows, coverage)
    if not found.trust.tasks:
        raise PollinateError(
            "nothing can be calibrated: validation rows with a label are needed, of a task of "
            f"classes, labels, ordered classes, tags or numbers; {checkpoint} has "
            f"{', '.join(module.tasks)}"
        )
    if output != checkpoint:
        write_checkpoint(read_checkpoint(checkpoint), output)
    store_trust(found.trust, output)
    return found
