"""Numbers of bytes and operations, as people write and read them."""

from __future__ import annotations

import re

from pipeline.errors import UsageError

UNITS = {
    "": 1,
    **{f"{p}B": 1000**n for n, p in enumerate(("", "K", "M", "G", "T"))},
    **{f"{p}iB": 1024**n for n, p in enumerate(("K", "M", "G", "T"), start=1)},
}
WRITTEN = re.compile(r"\s*(\d+(?:\.\d*)?(?:e\d+)?)\s*([A-Za-z]*)\s*")
PREFIXES = ("", "k", "M", "G", "T", "P")


def bytes_in(text: str | float) -> int:
    """Return the bytes that ``24GB``, ``16GiB``, ``800 MB`` or a number stands for.

    Raises:
        UsageError: it stands for none.
    """
    match = WRITTEN.fullmatch(str(text))
    units = {name.lower(): factor for name, factor in UNITS.items()}
    factor = units.get(match[2].lower()) if match else None
    found = 0 if match is None or factor is None else int(float(match[1]) * factor)
    if found < 1:
        raise UsageError(f"memory must be bytes > 0 such as 24GB or 800MiB, got {text}")
    return found


def in_bytes(count: float) -> str:
    """Return ``1.5 GB``."""
    return f"{scaled(count)}B"


def scaled(count: float) -> str:
    """Return ``1.5 G``, ``85 M`` or ``12 ``: two digits at least, with a prefix of 1000."""
    for prefix in PREFIXES:
        if count < 999.5 or prefix == PREFIXES[-1]:
            break
        count /= 1000
    return f"{count:.1f} {prefix}" if 0 < count < 10 else f"{count:,.0f} {prefix}"
