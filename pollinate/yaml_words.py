"""Words that YAML reads as something else: no is false, null is nothing, 1.0 is a number."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal, InvalidOperation
from typing import Any

WORDS: dict[bool | None, tuple[str, ...]] = {
    True: ("true", "yes", "on"),
    False: ("false", "no", "off"),
    None: ("null", "none", "~"),
}
FLAGS = {
    **dict.fromkeys((*WORDS[True], "y", "t"), True),
    **dict.fromkeys((*WORDS[False], "n", "f"), False),
}  # words for yes and no, as programs write them into tables


def may_mean(value: Any, word: str) -> bool:
    """Say whether a value of a YAML file may stand for a word of the data.

    False may be no, off or false, in capitals or not; a number any way of writing it.
    """
    if str(value) == word:
        return True
    if is_word(value):
        return word.lower() in WORDS[value]
    try:
        return Decimal(str(value)) == Decimal(word)
    except InvalidOperation:
        return False


def meant_word(value: Any, known: Collection[str]) -> str:
    """Return the one of the known words that a value of a YAML file stands for, else its text."""
    text = str(value)
    found = [] if text in known else [word for word in known if may_mean(value, word)]
    return found[0] if len(found) == 1 else text


def quotes_hint(value: Any) -> str:
    """Return what to write where a text is wanted, and YAML has read another value; else nothing.

    Args:
        value: a plain value, a list or a mapping; of a mapping the first thing that is no text.
    """
    if isinstance(value, dict):
        return next(filter(None, map(quotes_hint, [*value, *value.values()])), "")
    if not isinstance(value, list | tuple):
        return "" if isinstance(value, str) else f"; {reason(value)}write {quoted(value)} in quotes"
    hints = [reason(item) for item in value if not isinstance(item, str | list | tuple | dict)]
    texts = ", ".join(quoted(item) for item in value)
    return f"; {next(filter(None, hints), '')}write [{texts}]" if hints else ""


def reason(value: Any) -> str:
    """Say what YAML reads as a value that is no text."""
    if value is None:
        return "YAML reads null as nothing: "
    if isinstance(value, bool):
        name, word, _ = WORDS[value]
        return f"YAML reads {word} as {name}: "
    return ""


def is_word(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def quoted(value: Any) -> str:
    """Return the word that a value was meant as, in quotes."""
    word = WORDS[value][int(value is not None)] if is_word(value) else value
    return f'"{word}"'
