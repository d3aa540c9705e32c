"""Findings in a run folder and in MLflow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.inspection.inspector import Findings
from pipeline.inspection.page import page
from pipeline.inspection.problems import SEVERITIES
from pipeline.instantiate import instantiate
from pipeline.runs import RunFolder
from pipeline.tracking.redact import redact
from pipeline.tracking.run_logger import RunLogger

PAGE, PROBLEMS = "inspect.html", "problems.json"


def keep(config: Mapping[str, Any], folder: RunFolder, found: Findings) -> Path:
    """Write the page and the problems, and track both; return the page's path."""
    folder.create()
    folder.write_config(redact(config))
    title = ", ".join(found.facts) or config["name"]
    (folder.path / PAGE).write_text(page(title, found, config["samples"]), encoding="utf-8")
    problems = json.dumps([asdict(problem) for problem in found.problems], indent=2)
    (folder.path / PROBLEMS).write_text(problems + "\n", encoding="utf-8")
    options = {"run_dir": folder.path, "run_name": config["name"], "resume": False}
    tracker: RunLogger = instantiate(
        config["tracking"], config["allow_targets"], "tracking", **options
    )
    tracker.log_params({"data": config["data"]})
    tracker.log_metrics(metrics(found))
    for name in (PAGE, PROBLEMS):
        tracker.log_artifact(folder.path / name)
    tracker.close("finished")
    return folder.path / PAGE


def metrics(found: Findings) -> dict[str, float]:
    """Return numbers of rows, labels and problems."""
    numbers = {
        f"problems/{name}": float(sum(p.severity == name for p in found.problems))
        for name in SEVERITIES
    }
    for dataset, facts in found.facts.items():
        numbers |= {f"rows/{dataset}/{split}": float(n) for split, n in facts.rows.items()}
        for task, own in facts.tasks.items():
            labelled = sum(own.labelled.values())
            numbers[f"labelled/{dataset}/{task}"] = float(labelled)
    return numbers
