"""What is found in data: how bad it is, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from datamodules.table import Table

SHOWN = 8  # places that are kept of a problem
ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)


@dataclass
class Problem:
    """severity: one of ``SEVERITIES``; where: data set or task; advice: what to do.

    count: rows or things concerned; places: the first of them, with file and line.
    """

    severity: str
    where: str
    what: str
    advice: str
    count: int = 0
    places: list[str] = field(default_factory=list)


def places(table: Table, rows: Iterable[int]) -> list[str]:
    """Say where the first rows are."""
    return [table.place(int(row)) for row in list(rows)[:SHOWN]]


def by_severity(problems: Sequence[Problem]) -> list[Problem]:
    """Return the problems, the worst first."""
    return sorted(problems, key=lambda problem: SEVERITIES.index(problem.severity))


def verdict(problems: Sequence[Problem]) -> str:
    """Say in a line how the data are."""
    counts = {name: sum(p.severity == name for p in problems) for name in SEVERITIES}
    found = [f"{n} {name}{'s' if n != 1 else ''}" for name, n in counts.items() if n]
    return f"{', '.join(found)} found" if found else "nothing wrong was found"
