"""Rank sources to transfer from, models and tasks, for each task of the data.

Takes what pipeline.fit takes, for the target and the short run that compares its tasks.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.command import CommandArguments, CommandResult, entry_points
from pipeline.plan import new_file
from pollinate.requirements import check_is_new

if TYPE_CHECKING:  # they import torch
    from pipeline.ranking.ranking_report import RankingReport
    from pipeline.run_folder import RunFolder


@dataclass(kw_only=True)
class RankSourcesResult(CommandResult):
    """folder: of the ranking's files; report: the same."""

    folder: RunFolder
    report: RankingReport


def run(config: Mapping[str, Any], _: CommandArguments) -> RankSourcesResult:
    # imported here: torch takes seconds, and a wrong config doesn't need it
    from pipeline.command import silence_libraries
    from pipeline.crash_report import crash_evidence, is_left_by_a_crash
    from pipeline.fit import with_absolute_uri
    from pipeline.ranking.ranking_report import check_output, print_ranking, save_ranking
    from pipeline.ranking.ranking_run import make_ranking_report
    from pipeline.run_folder import new_run_folder
    from pipeline.terminal import print_labelled
    from pipeline.text_format import relpath
    from pollinate.console import new_console

    silence_libraries()
    check_output(config["output"])
    if config["output"] is not None:
        new_file(Path(config["output"]))
    if config["run_dir"] is not None:
        check_is_new(Path(config["run_dir"]), is_left_by_a_crash)
    config = with_absolute_uri(config)
    folder = new_run_folder(config["name"], config["run_dir"])
    console = new_console()
    with crash_evidence(config, folder.path):
        report = make_ranking_report(config, folder, console)
        print_ranking(console, report)
        save_ranking(config, folder, report)
    print_labelled(console, [("run folder", relpath(folder.path))])
    return RankSourcesResult(folder=folder, report=report)


call, main = entry_points("rank_sources", run)

if __name__ == "__main__":
    sys.exit(main())
