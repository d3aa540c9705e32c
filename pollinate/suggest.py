"""Say what is allowed and which right name is nearest to a wrong one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pollinate.errors import UsageError

SHOWN = 24  # names in one message; a longer list hides the point


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed name most like ``name``, or None when nothing is near.

    A dotted path also matches by its last part: ``max_epochs`` finds ``trainer.max_epochs``.
    """
    from difflib import get_close_matches  # here, as most commands make no mistake

    names = list(allowed)
    for other in names:
        if other.rpartition(".")[2] == name:
            return other
    lower = {other.lower(): other for other in names}
    found = get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    return lower[found[0]] if found else None


def hint(name: str, allowed: Iterable[str], noun: str) -> str:
    """Return ``"; did you mean X? nouns: X, Y"``, the end of a message about a wrong name."""
    names = list(allowed)
    return f"{did_you_mean(name, names) or ';'} {noun}: {listing(names)}"


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Return ``"; did you mean X?"``, or nothing when no name is near."""
    other = nearest(name, allowed)
    return f"; did you mean {other}?" if other else ""


def shown(value: Any) -> str:
    """Return a config value as its author would write it: null, true, "text"."""
    import json  # here, as --help shows no value

    return json.dumps(value, default=str, ensure_ascii=False)


def listing(allowed: Iterable[str]) -> str:
    names = list(allowed)
    shown = ", ".join(names[:SHOWN]) or "none"
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def raise_all(problems: Sequence[str], most: int = 10) -> None:
    """Raise one UsageError that lists every problem, so that one run shows them all."""
    if not problems:
        return
    if len(problems) == 1:
        raise UsageError(problems[0])
    rest = [f"  and {len(problems) - most} more"] if len(problems) > most else []
    lines = [f"  - {problem}" for problem in problems[:most]]
    raise UsageError("\n".join([f"{len(problems)} problems in the configuration", *lines, *rest]))
