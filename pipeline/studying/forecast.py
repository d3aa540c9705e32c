"""How long a study will still take."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from pipeline.studying.scheduler import Work

OVER = ("done", "failed")


def remaining(works: Sequence[Work], jobs: int) -> float | None:
    """Return seconds until all is done, None where nothing is known.

    r sum_i t_i / jobs over what is left, where t_i is what job i was expected to take, less what it
    has taken, and r how much longer than expected the finished ones took.

    Args:
        works: all of them.
        jobs: that run at a time.
    """
    done = [w for w in works if w.state == "done" and not w.found and w.seconds > 0]
    left = [w for w in works if w.state not in OVER]
    if not left:
        return 0.0
    ratio = slower(done)
    guesses = [w.job.expected for w in works if w.job.expected is not None]
    usual = fmean(w.seconds for w in done) if done else fmean(guesses) if guesses else None
    total = 0.0
    for work in left:
        expected = usual if work.job.expected is None else ratio * work.job.expected
        if expected is None:
            return None
        total += max(0.0, expected - (0.0 if work.child is None else work.child.seconds))
    return total / min(jobs, len(left))


def slower(done: Sequence[Work]) -> float:
    """Return how many times longer than expected finished jobs took, 1 where none is known."""
    known = [w for w in done if w.job.expected]
    if not known:
        return 1.0
    return sum(w.seconds for w in known) / sum(w.job.expected or 0.0 for w in known)


def duration(seconds: float) -> str:
    """Return a time for people: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
