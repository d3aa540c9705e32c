"""What several benchmarks do alike: read numbers off the command line, train, read scores."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any


def numbers_and_rest(defaults: Mapping[str, int]) -> tuple[dict[str, int], list[str]]:
    """Return the command line's ``key=number`` of these keys, and all else that it says."""
    numbers, rest = dict(defaults), []
    for argument in sys.argv[1:]:
        key, _, value = argument.partition("=")
        if key in numbers:
            numbers[key] = int(value)
        else:
            rest.append(argument)
    return numbers, rest


def fit_here(arguments: Sequence[str]) -> None:
    """Train in this process; what it says is shown only if it fails."""
    from pipeline.fit import main as fit  # takes seconds

    with redirect_stdout(StringIO()) as said:
        code = fit(arguments)
    if code:
        sys.exit(said.getvalue())


def fit_apart(folder: Path, *arguments: str, shown: bool = False) -> dict[str, Any]:
    """Train in a process of its own; return summary.json of the run folder."""
    command = [sys.executable, "-m", "pipeline.fit", *arguments, f"run_dir={folder}"]
    subprocess.run(command, check=True, stdout=None if shown else subprocess.DEVNULL)
    return summary_of(folder)


def summary_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return found


def is_finished(folder: Path) -> bool:
    return (folder / "summary.json").exists() and summary_of(folder)["status"] == "finished"


def deviation(values: Sequence[float]) -> float:
    """Return the standard deviation, 0 of one value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0
