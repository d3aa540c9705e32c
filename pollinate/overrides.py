"""What a value is on the command line: the one way to write ``key=value``, here and in messages."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

# a name or a path that Hydra's grammar takes for a text as it stands
PATH = re.compile(r"(?:[a-z]+://)?[\w./-]*/[\w./-]*|[\w.-]*\.[\w.-]*[A-Za-z_-]", re.ASCII)
NAME = re.compile(r"(?!(?:null|true|false|nan|inf)$)[A-Za-z_][\w-]*", re.ASCII | re.IGNORECASE)
IN_KEY = re.compile(r"([\\()\[\]{}:=, \t])")  # what a key inside braces has a backslash before


def override(key: str, value: Any) -> str:
    """Return ``key=value``.

    Args:
        key: ``seeds``, ``optimizer.lr``, ...
        value: None, a number, a text, a path, or a list or dict of these.
    """
    return f"{key}={value_text(value)}"


def option_text(key: str, value: Any) -> str:
    """Return ``key=value`` for a message, quoted as a shell takes it."""
    return shlex.quote(override(key, value))


def overrides_of(**values: Any) -> list[str]:
    return [override(key, value) for key, value in values.items()]


def value_text(value: Any) -> str:
    """Return a value in Hydra's grammar; a text is in quotes if it would be read as another."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        pairs = (f"{_key_text(key)}:{value_text(one)}" for key, one in value.items())
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(value_text, value)) + "]"
    assert isinstance(value, str | PurePath)
    text = str(value)
    return text if PATH.fullmatch(text) or NAME.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    text = text.replace("${", "\\${")  # OmegaConf's interpolation
    # a backslash means itself unless a quote follows
    escaped = re.sub(r'(\\*)("|$)', lambda m: 2 * m[1] + ('\\"' if m[2] else ""), text)
    return f'"{escaped}"'


def _key_text(key: Any) -> str:
    return IN_KEY.sub(r"\\\1", key if isinstance(key, str) else value_text(key))
