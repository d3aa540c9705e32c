"""Keeps passwords and tokens out of journals, tags and messages: one rule for keys, one for texts.

A key is secret by its words, wherever it stands: beside a value, in a query, in an assignment. A
text hides logins in addresses, values of secret keys, and what has a known token's form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

HIDDEN = "***"

# whole words of a key, so that tokenizer, max_tokens and keyboard stay readable
_SECRET_WORDS = {
    "password", "passwords", "passwd", "passphrase", "pwd", "token", "secret", "secrets",
    "credential", "credentials", "apikey", "apikeys", "authorization", "auth", "bearer", "jwt",
    "cookie", "cookies", "headers", "signature", "sig",
}  # fmt: skip
_SECRET_PAIRS = {
    (first, last)
    for first in ("api", "access", "private", "auth", "secret", "account", "encryption")
    for last in ("key", "keys", "token", "tokens")
} | {("storage", "options"), ("connection", "string"), ("session", "id"), ("user", "pass")}
# in a key that is written as one word: dbpassword, accesstoken
_SECRET_PARTS = re.compile(
    "passw(?:or)?d|passphrase|apikey|accesskey|secretkey|privatekey|(?:access|auth)token|credential"
)
# settings of text models whose names contain a secret's word
_HARMLESS = {
    "pad", "unk", "bos", "eos", "mask", "cls", "sep", "special", "class", "start", "end", "count",
    "length", "limit", "max", "min", "num", "pool", "dim", "embedding",
}  # fmt: skip
# what stands below these is called as the user likes: a task may be called token
_NAMES = {"tasks", "datasets", "task_weights", "encoder", "inputs", "columns", "map", "teachers"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def is_secret(key: str) -> bool:
    """Whether a part of a dotted key names a password, token, secret or key of an API."""
    parts = ["", *key.split(".")]
    return any(above not in _NAMES and _part_is_secret(part) for above, part in pairwise(parts))


def _part_is_secret(part: str) -> bool:
    words = [word.lower() for word in _WORD.findall(part)]
    if {"token", "auth"}.intersection(words) and _HARMLESS.intersection(words):
        return False
    return (
        not _SECRET_WORDS.isdisjoint(words)
        or not _SECRET_PAIRS.isdisjoint(pairwise(words))
        or _SECRET_PARTS.search("".join(words)) is not None
    )


_SCHEME = r"[a-zA-Z][\w+.\-]*://"
# up to the last @ before the next address: a password may hold @ / ? ' " and spaces, and what
# looks like a port is none
_LOGIN = re.compile(
    rf"(?P<scheme>{_SCHEME})"
    r"(?P<login>[^\s/@:]*:(?!\d{1,5}(?:[/?#\s'\"),;]|$))(?:(?!"
    + _SCHEME
    + r")[^\n])*|[^/\s@'\"]+)@"
)
_VALUE = r"(?P<value>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|{end}+)"
_PARAMETER = re.compile(r"(?P<start>[?&#;](?P<key>[\w.\-%]+)=)" + _VALUE.format(end=r"[^&#\s'\"]"))
_ASSIGNED = re.compile(r"(?P<start>(?P<key>[\w.\-]+)=)" + _VALUE.format(end=r"[^\s,;&#'\"{}\[\]]"))
# {token: x} as YAML, JSON and the command line write it
_ENTRY = re.compile(
    r"(?P<start>[{,]\s*(?P<quote>['\"]?)(?P<key>[\w.\-]+)(?P=quote)\s*:\s*)"
    + _VALUE.format(end=r"[^,{}\[\]\n]")
)
_HEADER = re.compile(r"(?P<start>\b(?:Bearer|Basic)\s+)[\w.~+/=\-]{6,}", re.IGNORECASE)
_FORMS = re.compile(
    r"\b(?:hf_|gh[pousr]_|github_pat_|glpat-|sk-|xox[abeoprs]-|pypi-|dapi)[\w\-]{16,}"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\beyJ[\w\-]+\.[\w\-]+\.[\w\-]+"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?"
)


def redact_text(text: str) -> str:
    """Hide what a text says of secrets: http://***@host, token=***, Bearer ***."""
    text = _LOGIN.sub(rf"\g<scheme>{HIDDEN}@", text)
    for pattern in (_PARAMETER, _ASSIGNED, _ENTRY):
        text = pattern.sub(_hide_value, text)
    return _FORMS.sub(HIDDEN, _HEADER.sub(rf"\g<start>{HIDDEN}", text))


def _hide_value(found: re.Match[str]) -> str:
    return f"{found['start']}{HIDDEN}" if is_secret(found["key"]) else found[0]


def passwords_in(text: str) -> Iterator[str]:
    """Yield the logins and passwords of the addresses in a text, as they stand there."""
    for found in _LOGIN.finditer(text):
        yield found["login"]
        yield found["login"].partition(":")[2]


def redact(value: Any, key: str = "") -> Any:
    """Copy plain containers; values of secret keys, and secrets in texts, are hidden."""
    if isinstance(value, Mapping):
        return {k: redact(v, f"{key}.{k}" if key else str(k)) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [redact(item, key) for item in value]
    if value is not None and not isinstance(value, bool) and is_secret(key):
        return HIDDEN
    return redact_text(value) if isinstance(value, str) else value


def redact_arguments(arguments: Sequence[str]) -> list[str]:
    """Hide the values of secret keys in a command line's key=value arguments."""
    return [_redact_argument(argument) for argument in arguments]


def _redact_argument(argument: str) -> str:
    key, equals, value = argument.partition("=")
    if not equals or not _KEY.fullmatch(key):
        return redact_text(argument)
    return f"{key}={HIDDEN if is_secret(key.lstrip('+~-')) else redact_text(value)}"


_KEY = re.compile(r"[+~\-]*[\w./@\-]+")
