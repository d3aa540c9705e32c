"""What every command that keeps its result does: run folder, tracker, how it ended."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pipeline.crash_report import (
    has_crashed_before,
    is_crash,
    keep_evidence,
    one_line,
    open_tracker,
)
from pipeline.run_folder import RunFolder
from pipeline.run_summary import RunSummary
from pipeline.tracking.loggers import RunLogger
from pipeline.tracking.redact import redact


@contextmanager
def recorded_run(
    config: Mapping[str, Any],
    folder: RunFolder,
    summary: RunSummary | None = None,
    started: float = 0.0,
) -> Iterator[RunLogger]:
    """Make a run folder with the configuration, and track what is done with it.

    The run ends as failed if there is an error, as finished otherwise.

    Args:
        config: of the command.
        folder: of the run.
        summary: of the run, written at the end; None: it has none.
        started: ``time.perf_counter()`` when the command began.
    """
    again = has_crashed_before(folder.path)
    folder.create()
    folder.write_config(redact(config))
    tracker = open_tracker(config, folder.path, resume=again)
    status, message = "failed", None
    try:
        tracker.log_params({name: value for name, value in config.items() if name != "run_dir"})
        tracker.log_artifact(folder.config)
        yield tracker
        status = "finished"
    except BaseException as error:
        message = one_line(error)
        if is_crash(error, begun=True):
            keep_evidence(error, config, folder.path, tracker=tracker)
        raise
    finally:
        if summary is not None:  # first: the tracker's end may take as long as its server
            summary.status, summary.message = status, message
            summary.seconds = round(time.perf_counter() - started, 2)
            folder.write_summary(summary.as_dict())
        tracker.close(status)
        if summary is not None:
            summary.run_id = tracker.run_id
            folder.write_summary(summary.as_dict())
