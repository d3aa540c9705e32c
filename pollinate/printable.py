"""Texts that aren't ours, as a terminal, a page or a tag can show them."""

from __future__ import annotations

import re

# commands of terminals (C0, DEL, C1), what turns the direction of a line around, half characters
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Return a text in which nothing is a command: an escape character is shown as ``\x1b``."""
    return UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
