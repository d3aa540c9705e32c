"""The run folder that a merge fills."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.run_folder import RunFolder
from pollinate.errors import UsageError

OWN_FILES = (
    "config.yaml",
    "summary.json",
    "coefficients.json",
    "tokenizer.json",
    "git.diff",
    "metrics.jsonl",
    "operations.jsonl",
    "system.jsonl",
    "tracking.json",
    "evaluation-*.json",
    "crash*.txt",
)
OWN_FOLDERS = ("checkpoints", "plots", "model")


def check_not_inside(output: Path, models: Sequence[Path]) -> None:
    for model in models:
        if model.resolve().is_relative_to(output.resolve()):
            raise UsageError(f"output {output} holds {model}, which is merged; choose another")


def clear_previous_run(folder: RunFolder) -> None:
    """Remove what an earlier run left in its folder, and nothing else."""
    for pattern in OWN_FILES:
        for path in folder.path.glob(pattern):
            path.unlink()
    for name in OWN_FOLDERS:
        shutil.rmtree(folder.path / name, ignore_errors=True)
