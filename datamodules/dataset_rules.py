"""Rules for a data set's inputs and split; checked without reading any data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pollinate.suggest import hint, listing, shown
from pollinate.yaml_words import quotes_hint

SPLITS = ("train", "valid", "test")
SPLIT_KEYS = ("group", "stratify")
UNSET = "???"  # what a YAML file writes for a value that the user must give


def is_number(value: Any) -> bool:
    """Return whether a value is an int or a float; a bool is neither."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)


INPUT_FORMS = {
    "text": "a column's name, or [two columns] for a pair of texts",
    "image": "a column's name",
    "audio": "a column's name, or {array: COLUMN, rate: COLUMN or samples a second}",
}


def is_input(modality: str, column: Any) -> bool:
    """Return whether a modality can be read from what is named."""
    if isinstance(column, str):
        return True
    if modality == "text":
        return is_names(column) and len(column) == 2
    if modality == "audio" and isinstance(column, dict) and set(column) == {"array", "rate"}:
        is_rate = isinstance(column["rate"], str) or is_number(column["rate"])
        return isinstance(column["array"], str) and is_rate
    return False


def split_problems(path: str, split: Any) -> Iterator[str]:
    """Yield what is wrong with {column: name}, {files: ...} or {train: f, valid: f, test: f}."""
    if not isinstance(split, dict) or not split:
        yield (
            f"{path} must be {{column: NAME}}, {{files: {{train: FILE, ...}}}} or fractions such "
            f"as {{train: 0.8, valid: 0.1, test: 0.1}}, got {shown(split)}"
        )
        return
    known = "column" in split or "files" in split
    allowed = (
        ("column", "values", "valid", "test", *SPLIT_KEYS)
        if "column" in split
        else ("files", "valid", "test", *SPLIT_KEYS)
        if known
        else (*SPLITS, *SPLIT_KEYS)
    )
    yield from (
        f"{path} has no key {key!r}{hint(str(key), allowed, 'allowed')}"
        for key in split
        if key not in allowed
    )
    for key in ("column", *SPLIT_KEYS):
        given, takes_list = split.get(key), key == "stratify"
        if given is None or isinstance(given, str):
            continue
        if not takes_list or not (given == [] or is_names(given)):
            form = "a column's name, or a list of them" if takes_list else "a column's name"
            yield f"{path}.{key} must be {form}, got {shown(given)}{quotes_hint(given)}"
    for key in ("files", "values"):
        if key in split:
            yield from _by_split_problems(f"{path}.{key}", split[key])
    if known and not draws_rows(split):
        yield from (
            f"{path}.{key} says how rows are drawn, and here none are; leave it out, or draw a "
            "split: valid: 0.1"
            for key in SPLIT_KEYS
            if split.get(key)
        )
    yield from _fraction_problems(path, split, known)


def draws_rows(split: Mapping[str, Any]) -> bool:
    """Say whether a split deals rows out at random: all, or a share of the training rows."""
    return any(split.get(name) for name in SPLITS if name != "train")


def _by_split_problems(path: str, node: Any) -> Iterator[str]:
    """Yield what is wrong with {train: ..., valid: ..., test: ...}, of which two may lack."""
    if not isinstance(node, dict) or not node:
        yield f"{path} must be {{train: ..., valid: ..., test: ...}}, got {shown(node)}"
        return
    for key in node:
        if key not in SPLITS:
            yield f"{path} has no key {key!r}{hint(str(key), SPLITS, 'allowed')}"
    if "train" not in node:
        yield f"{path}.train is missing; the other splits can be drawn from it"
    given = [
        str(v) for value in node.values() for v in (value if isinstance(value, list) else [value])
    ]
    for twice in sorted({value for value in given if given.count(value) > 1}):
        yield f"{path} names {twice!r} twice; a row is in one split"


def _fraction_problems(path: str, split: dict[str, Any], known: bool) -> Iterator[str]:
    fractions = {key: value for key, value in split.items() if key in SPLITS and value != UNSET}
    alone = fractions.get("train") if len(fractions) == 1 else None
    if is_number(alone) and alone == 1 and not known:
        return  # rows for training only, without labels say
    for key, value in fractions.items():
        if not is_number(value) or not 0 < value < 1:
            yield f"{path}.{key} must be a fraction in (0, 1), got {shown(value)}"
            return
    if known or UNSET in split.values():
        return
    if set(fractions) != set(SPLITS):
        yield f"{path} must give train, valid and test, got {listing(fractions)}"
    elif not math.isclose(sum(fractions.values()), 1.0, abs_tol=1e-6):
        yield f"{path} must sum to 1, got {shown(split)}, which sums to {sum(fractions.values()):g}"
