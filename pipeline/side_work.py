"""What is made of a result besides the result: where it fails, nothing else is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pipeline.crash_report import keep_evidence, one_line
from pipeline.run_folder import RunFolder
from pipeline.tracking.loggers import RunLogger
from pipeline.tracking.redact import redact_text


@contextmanager
def costs_only_itself(
    what: str,
    config: Mapping[str, Any],
    folder: RunFolder,
    tracker: RunLogger,
    say: Callable[[str], None],
    problems: list[str],
) -> Iterator[None]:
    """Turn an error inside into a line of warning, and a traceback in the run folder.

    Args:
        what: is made inside: "plots".
        config: the composed configuration.
        folder: of the run.
        tracker: gets the traceback, too.
        say: tells people.
        problems: gets the line, for summary.json.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001  # the result is complete, whatever it is
        keep_evidence(error, config, folder.path, tracker=tracker)
        line = redact_text(f"the {what} couldn't be made: {one_line(error)}")
        say(f"warning: {line}")
        problems.append(line)
