"""Words for names, lists and counts."""

from __future__ import annotations

from collections.abc import Sequence

PLURALS = {"is": "are", "was": "were", "has": "have", "guesses": "guess"}


def code(name: str) -> str:
    """Return a name in backticks, which the page sets as code."""
    return f"`{name.replace('`', chr(39))}`"


def listed(names: Sequence[str], most: int = 6, last: str = "and") -> str:
    """Return ``a, b and c``; what is beyond the most is counted."""
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} more"]
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {last} {names[-1]}"


def count(number: int, noun: str) -> str:
    """Return ``1 task``, ``2 tasks``, ``3 more losses``."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def verb(number: int, singular: str) -> str:
    """Return ``was`` or ``were``."""
    return singular if number == 1 else PLURALS[singular]


def sentence(text: str) -> str:
    """Return a text that begins with a capital letter and ends with a stop."""
    text = text.strip()
    ending = "" if text.endswith((".", "!", "?")) else "."
    return f"{text[:1].upper()}{text[1:]}{ending}"
