"""Look at data before training: counts, problems and their rows, sample rows."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.command import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    return run_command("inspect", run, argv)


def run(config: Mapping[str, Any], given: Sequence[str]) -> int:
    """Inspect all data sets; return 0 also when there are problems.

    Args:
        config: the composed configuration.
        given: the keys that the command line sets.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch reads it when it is imported
    # imported here: torch takes seconds, and a wrong config doesn't need it
    from rich.console import Console

    from pipeline.command import silence_libraries
    from pipeline.fit import with_absolute_uri
    from pipeline.inspection.inspection_page import save_inspection
    from pipeline.inspection.inspection_run import inspect_data
    from pipeline.inspection.inspection_tables import print_findings
    from pipeline.run_folder import new_run_folder
    from pipeline.terminal import print_labelled
    from pipeline.text_format import relpath

    silence_libraries()
    config = with_absolute_uri(config)
    folder = new_run_folder(config["name"], config["run_dir"])
    found = inspect_data(config)
    console = Console()
    print_findings(console, found)
    path = save_inspection(config, folder, found)
    print_labelled(console, [("page", relpath(path))])
    return 0


if __name__ == "__main__":
    sys.exit(main())
