"""Labels that people take for one, and that are learnt as several classes."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal, InvalidOperation

# letters of other scripts, dashes and quotes that look like these (Unicode TR 39, the common ones)
TWINS = str.maketrans(
    "АВЕЅІЈКМНОРСТУХаеіјорсухѕԁԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧοʼ’‘`´“”‐‑‒–—−",  # noqa: RUF001  # these are meant
    "ABESIJKMHOPCTYXaeijopcyxsdqwABEZHIKMNOPTYXo'''''\"\"------",
)
SHOWN = 5  # groups that a message lists


def look(label: str) -> str:
    """Return what labels that look alike have in common.

    These are equal up to case, white space, signs without width, the way in which accents and wide
    letters are written, twins in other scripts, and the way in which a number is written.
    """
    text = unicodedata.normalize("NFKC", label.translate(TWINS)).translate(TWINS)
    seen = "".join(one for one in text if unicodedata.category(one) not in ("Cf", "Cc"))
    plain = " ".join(seen.casefold().split())
    try:
        number = Decimal(plain.replace("_", " "))
    except InvalidOperation:
        return plain
    return str(number.normalize()) if number.is_finite() else plain


def lookalikes(labels: Iterable[str]) -> list[list[str]]:
    """Return groups of different labels that look alike, each sorted."""
    groups: dict[str, set[str]] = {}
    for label in labels:
        groups.setdefault(look(label), set()).add(label)
    return [sorted(group) for _, group in sorted(groups.items()) if len(group) > 1]


def shown_group(group: Sequence[str]) -> str:
    """Return labels so that people see how they differ: 'caf\\xe9' and 'cafe\\u0301'."""
    return " and ".join(map(ascii, group))


def lookalike_notes(task: str, classes: Sequence[str]) -> Iterator[str]:
    """Yield a note if any classes of a task look alike."""
    if groups := lookalikes(classes):
        more = f"; and {len(groups) - SHOWN} more" if len(groups) > SHOWN else ""
        yield (
            f"labels of {task} look alike and are different classes: "
            f"{'; '.join(map(shown_group, groups[:SHOWN]))}{more}. Write them one way if they mean "
            "the same"
        )


def lookalike_hint(labels: Iterable[str], classes: Iterable[str]) -> str:
    """Return which class the first of unknown labels looks like that looks like any."""
    known = {look(name): name for name in classes}
    pairs = ((known[look(label)], label) for label in labels if look(label) in known)
    return next((f"; {label!a} looks like {name!a}" for name, label in pairs), "")
