"""Rank sources to transfer from, models and tasks, for each task of the data.

Takes what pipeline.fit takes, for the target and the short run that compares its tasks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.command import run_command
from pipeline.plan import new_file
from pollinate.requirements import check_is_new


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    return run_command("rank_sources", run, argv)


def run(config: Mapping[str, Any], given: Sequence[str]) -> int:
    """Rank, print and keep.

    Args:
        config: the composed configuration.
        given: the keys that the command line sets.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch reads it when it is imported
    # imported here: torch takes seconds, and a wrong config doesn't need it
    from rich.console import Console

    from pipeline.command import silence_libraries
    from pipeline.fit import with_absolute_uri
    from pipeline.ranking.ranking_report import check_output, print_ranking, save_ranking
    from pipeline.ranking.ranking_run import make_ranking_report
    from pipeline.run_folder import new_run_folder
    from pipeline.terminal import print_labelled
    from pipeline.text_format import relpath

    silence_libraries()
    check_output(config["output"])
    if config["output"] is not None:
        new_file(Path(config["output"]))
    if config["run_dir"] is not None:
        check_is_new(Path(config["run_dir"]))
    config = with_absolute_uri(config)
    folder = new_run_folder(config["name"], config["run_dir"])
    console = Console()
    report = make_ranking_report(config, folder, console)
    print_ranking(console, report)
    save_ranking(config, folder, report)
    print_labelled(console, [("run folder", relpath(folder.path))])
    return 0


if __name__ == "__main__":
    sys.exit(main())
