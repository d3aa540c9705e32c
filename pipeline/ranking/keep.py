"""A ranking in a run folder and in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.instantiate import instantiate
from pipeline.ranking.report import Report, as_csv, as_json, metrics
from pipeline.runs import RunFolder
from pipeline.tracking.redact import redact
from pipeline.tracking.run_logger import RunLogger

WRITERS = {".json": as_json, ".csv": as_csv}
STEM = "ranking"


def keep(config: Mapping[str, Any], folder: RunFolder, report: Report) -> None:
    """Write ranking.json, ranking.csv and ``output``, and track them."""
    folder.create()
    folder.write_config(redact(config))
    options = {"run_dir": folder.path, "run_name": config["name"], "resume": False}
    tracker: RunLogger = instantiate(
        config["tracking"], config["allow_targets"], "tracking", **options
    )
    tracker.log_params({name: value for name, value in config.items() if name != "run_dir"})
    tracker.log_metrics(metrics(report))
    for suffix, write in WRITERS.items():
        path = folder.path / f"{STEM}{suffix}"
        path.write_text(write(report), encoding="utf-8")
        tracker.log_artifact(path)
    tracker.close("finished")
    if config["output"] is not None:
        output = Path(config["output"])
        output.write_text(WRITERS[output.suffix](report), encoding="utf-8")


def check_output(output: str | None) -> None:
    """Check the name of ``output``.

    Raises:
        UsageError: it ends in neither .json nor .csv.
    """
    if output is not None and Path(output).suffix not in WRITERS:
        raise UsageError(f"output must end in {' or '.join(WRITERS)}, got {output}")
