"""Why a process of a study failed, in one line, and what to do."""

from __future__ import annotations

import re
import signal

MEMORY = re.compile(r"out of memory|memory ran out|can't allocate memory|not enough memory", re.I)
ADVICE = (
    "run fewer at a time (jobs=1), or take a smaller sampler.batch_size: "
    "python -m pipeline.plan tells what fits"
)
ERROR = "error: "


def failure(code: int | None, output: str, timeout: float | None = None) -> str:
    """Return why a process failed.

    Args:
        code: its exit code, minus the number of a signal that ended it; None: it wasn't started.
        output: what it printed.
        timeout: seconds that it was given, if it took longer.
    """
    if timeout is not None:
        return (
            f"it took more than timeout={timeout / 60:g} minutes and was stopped; its checkpoint "
            "is kept: the same command with a larger timeout goes on"
        )
    line = last_error(output)
    if code == -signal.SIGKILL:
        return f"it was killed, probably for lack of memory; {ADVICE}"
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"it was ended by {name}" + (f": {line}" if line else "")
    if MEMORY.search(line):
        return f"{line.rstrip('.;')}; {ADVICE}" if ADVICE not in line else line
    return line or f"it ended with exit code {code} and said nothing"


def last_error(output: str) -> str:
    """Return the last line that tells of an error, or the last one at all."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(ERROR)]
    chosen = errors[-1].removeprefix(ERROR) if errors else lines[-1] if lines else ""
    after = lines[lines.index(errors[-1]) + 1 :] if errors else []
    problems = [line for line in after if line.startswith("- ")]
    return " ".join([chosen, *problems])
