"""Why a process of a study failed, in one line, and what to do."""

from __future__ import annotations

import re
import signal

MEMORY = re.compile(
    r"out of memory|memory ran out|can't allocate memory|cannot allocate memory|unable to allocate"
    r"|not enough memory|MemoryError|bad_alloc|failed to map segment",
    re.IGNORECASE,
)
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
    line, is_error = last_words(output)
    if code == -signal.SIGKILL:
        return f"it was killed, probably for lack of memory; {ADVICE}"
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"it was ended by {name}" + (f": {line}" if line else "")
    if MEMORY.search(line):
        return f"{line.rstrip('.;: ')}; {ADVICE}" if ADVICE not in line else line
    if is_error:
        return line
    said = f"; it said last: {line}" if line else " and said nothing"
    return f"it ended with exit code {code}{said}"


def last_words(output: str) -> tuple[str, bool]:
    """Return the last line that tells of an error, or the last one at all, and which it is."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(ERROR.strip())]
    if not errors:
        return (lines[-1] if lines else ""), False
    after = lines[lines.index(errors[-1]) + 1 :]
    problems = [line for line in after if line.startswith("- ")]
    return " ".join([errors[-1].removeprefix(ERROR), *problems]), True
