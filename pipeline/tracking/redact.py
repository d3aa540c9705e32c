"""Keeps passwords and tokens out of journals, tags and messages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

HIDDEN = "***"

# whole words of a key, so that tokenizer, max_tokens and keyboard stay readable
_SECRET_WORDS = {
    "password", "passwd", "passphrase", "pwd", "token", "secret", "secrets", "credential",
    "credentials", "apikey", "authorization",
}  # fmt: skip
_SECRET_PAIRS = {("api", "key"), ("access", "key"), ("private", "key"), ("auth", "key")}
# settings of text models whose names contain a secret's word
_HARMLESS = {"pad", "unk", "bos", "eos", "mask", "cls", "sep", "special", "class", "start", "end"}
_USER_INFO = re.compile(r"(?P<scheme>[a-zA-Z][\w+.\-]*://)[^/\s@'\"]+@")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def is_secret(key: str) -> bool:
    """Whether a key's last part names a password, token, secret or key of an API."""
    words = [word.lower() for word in _WORD.findall(key.rsplit(".", 1)[-1])]
    if "token" in words and _HARMLESS.intersection(words):
        return False
    return not _SECRET_WORDS.isdisjoint(words) or not _SECRET_PAIRS.isdisjoint(pairwise(words))


def redact_text(text: str) -> str:
    """Hide user and password in every address of a text: http://***@host."""
    return _USER_INFO.sub(rf"\g<scheme>{HIDDEN}@", text)


def redact(value: Any, key: str = "") -> Any:
    """Copy plain containers; values of secret keys and passwords in addresses are hidden."""
    if is_secret(key) and value is not None and not isinstance(value, Mapping):
        return HIDDEN
    if isinstance(value, Mapping):
        return {k: redact(v, str(k)) for k, v in value.items()}
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Sequence):
        return [redact(item) for item in value]
    return value


def redact_arguments(arguments: Sequence[str]) -> list[str]:
    """Hide the values of secret keys in a command line's key=value arguments."""
    pairs = (argument.partition("=") for argument in arguments)
    return [
        key + "=" + HIDDEN if sep and is_secret(key) else redact_text(key + sep + value)
        for key, sep, value in pairs
    ]
