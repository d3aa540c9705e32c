"""A study in MLflow: one run, of which the trials are parts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.crash_report import open_tracker
from pipeline.serving.model_folder import export_model
from pipeline.studies.analysis.estimates import StudyAnalysis
from pipeline.studies.results import StudyResults
from pipeline.studies.trial_files import safe_name
from pipeline.tracking.addresses import VARIABLE
from pipeline.tracking.journals import OperationJournal, read_records
from pipeline.tracking.sender import METRICS, OPERATIONS, PARENT_TAG, SYSTEM, sent_bytes
from pollinate.overrides import override

PATIENCE = 20.0  # seconds that a server has to name the run before the first trial begins
STUDY_TAG = "pollinate.study"


class StudyTracker:
    """The study's own run; it can neither stop nor delay trials."""

    def __init__(self, config: Mapping[str, Any], folder: Path) -> None:
        self.folder = folder
        self.tracker = open_tracker(config, folder, (folder / OPERATIONS).exists())
        gone = ("run_dir", "resume", "jobs", "timeout", "retries", "dry_run", "seed")
        self.tracker.log_params({name: v for name, v in config.items() if name not in gone})
        self.tracker.set_tags({STUDY_TAG: config["name"]})
        self.uri: str | None = config["tracking"].get("uri")
        self._asks = self.uri is not None

    def await_id(self) -> None:
        """Wait a little for the id; trials that begin without it are adopted at the end."""
        until = time.monotonic() + PATIENCE
        while self._asks and self.tracker.run_id is None and time.monotonic() < until:
            time.sleep(0.1)

    def adopt(self, folders: Sequence[Path]) -> bool:
        """Show all trials below the study, and send what the server missed of them.

        Returns:
            False if the server doesn't take them; ``pipeline.sync`` can send them later.
        """
        run_id, late = self.tracker.run_id, [folder for folder in folders if is_behind(folder)]
        top_level = [folder for folder in folders if run_id and is_top_level(folder / OPERATIONS)]
        if run_id is None:
            return not late
        for folder in top_level:
            journal = OperationJournal(folder / OPERATIONS)
            journal.tags({PARENT_TAG: run_id})
            journal.close()
        command = [sys.executable, "-m", "pipeline.sync"]
        # not on the command line, which others can read: it may have a password
        known = {**os.environ, VARIABLE: str(self.uri)}
        return all(
            subprocess.run(
                [*command, override("run_dir", f)], capture_output=True, check=False, env=known
            ).returncode
            == 0
            for f in dict.fromkeys([*top_level, *late])
        )

    def answered(self, metrics: Mapping[str, float], files: Sequence[Path]) -> None:
        """Keep what it came to: numbers, and files of its folder."""
        self.tracker.log_metrics(dict(metrics))
        for file in files:
            inside = file.absolute().relative_to(self.folder.absolute()).parent.as_posix()
            self.tracker.log_artifact(file, "" if inside == "." else inside)

    def found(self, checkpoint: Path, folder: Path, allow_targets: Sequence[str]) -> None:
        """Keep the model that it came to as a fit keeps its own, and register it likewise.

        Args:
            checkpoint: of the model; folder: in that of the run, for what is served.
            allow_targets: packages, besides our own, whose classes it may name.
        """
        self.answered({}, [checkpoint])
        export_model(checkpoint, folder, allow_targets)
        self.tracker.log_model(folder, "model")

    def close(self, status: str) -> None:
        self.tracker.close(status)


def is_top_level(journal: Path) -> bool:
    """Say whether a run was tracked by a server, and not as a part of another."""
    tags = [record["tags"] for record, _ in read_records(journal) if record.get("op") == "tags"]
    return is_tracked(journal) and not any(PARENT_TAG in own for own in tags)


def is_tracked(journal: Path) -> bool:
    return any(r.get("uri") for r, _ in read_records(journal) if r.get("op") == "start")


def is_behind(folder: Path) -> bool:
    sent = sent_bytes(folder)
    paths = [folder / name for name in (METRICS, SYSTEM, OPERATIONS) if (folder / name).exists()]
    return is_tracked(folder / OPERATIONS) and any(
        path.stat().st_size > sent.get(path.name, 0) for path in paths
    )


def study_metrics(results: StudyResults, answers: StudyAnalysis) -> Iterator[tuple[str, float]]:
    """Yield what MLflow charts: ``score/<arm>/<task>``, ``change/...`` and ``delta_m/<arm>``."""
    for arm, scores in answers.scores.items():
        yield from ((f"score/{safe_name(arm)}/{t}", own.mean) for t, own in scores.items())
    for arm, comparison in answers.comparisons.items():
        for task, change in comparison.changes.items():
            yield f"change/{safe_name(arm)}/{task}", change.difference.mean
        whole = comparison.delta_m
        if whole is not None and whole.relative is not None:
            yield f"delta_m/{safe_name(arm)}", whole.relative.mean
    for status in ("finished", "failed", "timeout"):
        yield f"trials/{status}", float(sum(trial.status == status for trial in results.trials))
