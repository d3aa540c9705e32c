"""Forms: a modality as several networks read it, each in its own way.

The networks of an ensemble may have other tokenizers or other sizes of pictures. ``text`` is the
first form of texts, ``text-2`` the second; both are read from the same cells.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

FORM = re.compile(r"([a-z]+)-[0-9]+")  # prompts of a task, prompt/TASK, have one form


def modality_of(form: str) -> str:
    """Return the modality of a form: ``text`` of ``text-2``."""
    found = FORM.fullmatch(form)
    return found[1] if found else form


def form_name(modality: str, number: int) -> str:
    """Return the name of a modality's form, counted from 1; the first one's is the modality's."""
    return modality if number == 1 else f"{modality}-{number}"


def forms_of(modality: str, names: Iterable[str]) -> list[str]:
    """Return those of the names that are forms of a modality."""
    return [name for name in names if modality_of(name) == modality]
