"""Merge several models into one, or into an ensemble, and compare the scores."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.command import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    return run_command("merge", run, argv)


def run(config: Mapping[str, Any], _: Sequence[str]) -> None:
    """Check the output and find the models, then merge."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch reads it when it is imported
    from pipeline.exporting import check_output_folder
    from pipeline.find_checkpoint import find_checkpoint
    from pipeline.merging.output_folder import check_not_inside
    from pollinate.requirements import check_writable

    started = time.perf_counter()
    output = Path(config["output"]).absolute()
    check_output_folder(output, config["overwrite"])
    check_writable(output, "output")
    given = [str(Path(what).expanduser()) for what in config["models"]]
    models = [find_checkpoint(what, config["uri"]) for what in given]
    base = None if config["base"] is None else find_checkpoint(config["base"], config["uri"])
    check_not_inside(output, [*models, *([base] if base else [])])
    # imported here: torch and Lightning take seconds, and a wrong path needs neither
    from pipeline.command import silence_libraries
    from pipeline.fit import with_absolute_uri
    from pipeline.merging.merge_run import MergeRun
    from pipeline.run_folder import RunFolder

    silence_libraries()
    session = MergeRun(with_absolute_uri(config), RunFolder(output), models, base, started)
    session.run()


if __name__ == "__main__":
    sys.exit(main())
