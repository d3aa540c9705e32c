"""Look at data before training: counts, problems and their rows, sample rows."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.command import CommandArguments, CommandResult, entry_points

if TYPE_CHECKING:  # they import torch
    from pipeline.inspection.inspection_run import InspectionFindings
    from pipeline.run_folder import RunFolder


@dataclass(kw_only=True)
class InspectResult(CommandResult):
    """folder: of the page and the list of problems; findings: the same; page: to open."""

    folder: RunFolder
    findings: InspectionFindings
    page: Path


def run(config: Mapping[str, Any], _: CommandArguments) -> InspectResult:
    """Inspect all data sets; problems of theirs are no failure."""
    # imported here: torch takes seconds, and a wrong config doesn't need it
    from pipeline.command import silence_libraries
    from pipeline.crash_report import crash_evidence
    from pipeline.fit import with_absolute_uri
    from pipeline.inspection.inspection_page import print_findings, save_inspection
    from pipeline.inspection.inspection_run import inspect_data
    from pipeline.run_folder import new_run_folder
    from pipeline.terminal import print_labelled
    from pipeline.text_format import relpath
    from pollinate.console import new_console

    silence_libraries()
    config = with_absolute_uri(config)
    folder = new_run_folder(config["name"], config["run_dir"])
    console = new_console()
    with crash_evidence(config, folder.path):
        found = inspect_data(config)
        print_findings(console, found)
        path = save_inspection(config, folder, found)
    print_labelled(console, [("page", relpath(path))])
    return InspectResult(folder=folder, findings=found, page=path)


call, main = entry_points("inspect", run)

if __name__ == "__main__":
    sys.exit(main())
