"""Look at data before training: numbers, problems with their rows, sample rows."""

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

    from pipeline.fit import with_absolute_uri
    from pipeline.inspection.inspector import inspect_data
    from pipeline.inspection.keep import keep
    from pipeline.inspection.tables import print_findings
    from pipeline.quiet import quiet
    from pipeline.report import shown
    from pipeline.runs import new_run_folder

    quiet()
    config = with_absolute_uri(config)
    folder = new_run_folder(config["name"], config["run_dir"])
    found = inspect_data(config)
    console = Console()
    print_findings(console, found)
    path = keep(config, folder, found)
    console.print(f"[bold]page[/] {shown(path)}", highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
