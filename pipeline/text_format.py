"""Names, lists, counts, bytes and operations as people write and read them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pollinate.errors import UsageError
from pollinate.program import current_folder

PLURALS = {"is": "are", "was": "were", "has": "have", "guesses": "guess"}


def code(name: str) -> str:
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


NOTHING = "-"  # what isn't known, in a table


def cell(value: float | None, spec: str = ".3f") -> str:
    """Return a number as a table's cell: formatted as f-strings do, or a dash."""
    return NOTHING if value is None else format(value, spec)


def duration(seconds: float) -> str:
    """Return ``48 s``, ``12 min`` or ``2 h 05 min``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60:,} h {minutes % 60:02d} min"


UNITS = {
    "": 1,
    **{f"{p}B": 1000**n for n, p in enumerate(("", "K", "M", "G", "T"))},
    **{f"{p}iB": 1024**n for n, p in enumerate(("K", "M", "G", "T"), start=1)},
}
BYTES_PATTERN = re.compile(r"\s*(\d+(?:\.\d*)?(?:e\d+)?)\s*([A-Za-z]*)\s*")
PREFIXES = ("", "k", "M", "G", "T", "P")


def parse_bytes(text: str | float) -> int:
    """Return the bytes that ``24GB``, ``16GiB``, ``800 MB`` or a number stands for."""
    match = BYTES_PATTERN.fullmatch(str(text))
    units = {name.lower(): factor for name, factor in UNITS.items()}
    factor = units.get(match[2].lower()) if match else None
    found = 0 if match is None or factor is None else int(float(match[1]) * factor)
    if found < 1:
        raise UsageError(f"memory must be bytes > 0 such as 24GB or 800MiB, got {text}")
    return found


def format_bytes(count: float) -> str:
    """Return ``1.5 GB``."""
    return f"{format_scaled(count)}B"


def format_scaled(count: float) -> str:
    """Return ``1.5 G``, ``85 M`` or ``12 ``: two digits at least, with a prefix of 1000."""
    for prefix in PREFIXES:
        if count < 999.5 or prefix == PREFIXES[-1]:
            break
        count /= 1000
    return f"{count:.1f} {prefix}" if 0 < count < 10 else f"{count:,.0f} {prefix}"


def relpath(path: Path) -> Path:
    """Return a path as short as it can be written: relative, if it is below the current folder."""
    here = current_folder()
    return path.relative_to(here) if here is not None and path.is_relative_to(here) else path
