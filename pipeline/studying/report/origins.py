"""Under what the runs ran: versions, code, data."""

from __future__ import annotations

import platform
from collections import defaultdict
from pathlib import Path

from pipeline.studying.report.subject import Subject
from pipeline.tracking.lines import read_lines
from pipeline.tracking.redact import redact_text
from pipeline.tracking.sender import OPERATIONS
from pipeline.version import VERSION as VERSION_NUMBER

VERSION = "version."
COMMIT, DIRTY = "mlflow.source.git.commit", "mlflow.source.git.dirty"


def origins(subject: Subject, folder: Path) -> dict[str, list[str]]:
    """Return {what: values} that the trials have noted; several where they differ."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for trial in subject.results.trials:
        for record, _ in read_lines(folder / trial.folder / OPERATIONS):
            if record.get("op") == "tags":
                for name, value in versions(record.get("tags", {})).items():
                    found[name][redact_text(str(value))] = None
            if record.get("op") == "dataset":
                source = redact_text(str(record.get("source", "")))
                found[f"data: {record.get('name')}"][f"{record.get('digest')} ({source})"] = None
    if not found:  # the runs weren't tracked
        found["python"][platform.python_version()] = None
        found["pollinate"][VERSION_NUMBER] = None
    return {name: list(values) for name, values in sorted(found.items())}


def versions(tags: dict[str, str]) -> dict[str, str]:
    """Return versions and commit among a run's tags."""
    named = {key.removeprefix(VERSION): tags[key] for key in tags if key.startswith(VERSION)}
    if COMMIT in tags:
        changed = " with changes" if tags.get(DIRTY) == "True" else ""
        named["commit"] = f"{tags[COMMIT]}{changed}"
    return named
