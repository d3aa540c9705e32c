"""Many tests at once: the chance of any false one stays where it is for one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p: Sequence[float]) -> list[float]:
    """Return adjusted p: of the i-th smallest of m, max_{j <= i} min(1, (m - j + 1) p_(j)).

    The chance of any adjusted p <= alpha among true null hypotheses is at most alpha, however
    the tests depend on each other.

    Source: Holm 1979.

    Args:
        p: of m tests, in [0, 1].
    """
    values = np.asarray(p, dtype=float)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(one) for one in adjusted]
