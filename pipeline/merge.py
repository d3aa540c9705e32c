"""Merge several models into one, or into an ensemble, and compare the scores."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.command import CommandArguments, CommandResult, entry_points

if TYPE_CHECKING:  # they import torch
    from pipeline.merging.merge_report import MergeSummary
    from pipeline.run_folder import RunFolder


@dataclass(kw_only=True)
class MergeCommandResult(CommandResult):
    """folder: run folder of the merged model; summary: its scores and its models'."""

    folder: RunFolder
    summary: MergeSummary


def run(config: Mapping[str, Any], _: CommandArguments) -> MergeCommandResult:
    from pipeline.exporting import check_output_folder
    from pipeline.find_checkpoint import find_checkpoint
    from pipeline.run_folder import check_not_inside
    from pollinate.requirements import check_writable

    started = time.perf_counter()
    output = Path(config["output"]).absolute()
    check_output_folder(output, config["overwrite"])
    check_writable(output, "output")
    named = config["models"]
    given = list(named.values()) if isinstance(named, dict) else named
    models = [find_checkpoint(str(Path(what).expanduser()), config["uri"]) for what in given]
    base = None if config["base"] is None else find_checkpoint(config["base"], config["uri"])
    check_not_inside(output, [*models, *([base] if base else [])])
    # imported here: torch and Lightning take seconds, and a wrong path needs neither
    from pipeline.command import silence_libraries
    from pipeline.crash_report import crash_evidence
    from pipeline.fit import with_absolute_uri
    from pipeline.merging.merge_run import MergeRun
    from pipeline.run_folder import RunFolder

    silence_libraries()
    config, folder = with_absolute_uri(config), RunFolder(output)
    with crash_evidence(config, output):
        summary = MergeRun(config, folder, models, base, started).run()
    return MergeCommandResult(folder=folder, summary=summary)


call, main = entry_points("merge", run)

if __name__ == "__main__":
    sys.exit(main())
