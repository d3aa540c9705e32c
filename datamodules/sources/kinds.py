"""The Arrow type of a column of Python values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # no types

NUMBERS = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}


class Kind:
    """What a column's values have in common; ``add`` them one by one, then ask for ``type``.

    Numbers of both kinds are float; values of different kinds, and objects, become text (JSON).
    """

    def __init__(self) -> None:
        self.found: set[Any] = set()

    def add(self, value: Any) -> None:
        """Take a value into account."""
        if value is not None:
            self.found.add(kind_of(value))

    @property
    def type(self) -> pa.DataType:
        """The narrowest type that holds them all."""
        lists = {found for found in self.found if isinstance(found, tuple)}
        if lists and lists == self.found:
            return pa.list_(narrowest({kind for found in lists for kind in found}))
        return pa.string() if lists else narrowest(self.found)


def kind_of(value: Any) -> Any:
    """Return a number's or text's Python type, for a list those of its items, else None."""
    if isinstance(value, list):
        return tuple({kind_of(item) for item in value if item is not None} or {float})
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 1 << 63:
        return str
    return type(value) if isinstance(value, bool | int | float | str) else None


def narrowest(kinds: set[Any]) -> pa.DataType:
    """Return the type for scalars of these kinds."""
    if kinds == {int, float}:
        return pa.float64()
    if len(kinds) == 1:
        (kind,) = kinds
        return NUMBERS.get(kind, pa.string())
    return pa.string()


def fit(value: Any, kind: pa.DataType) -> Any:
    """Return a value as its column's type holds it."""
    if value is None:
        return None
    if pa.types.is_list(kind):
        return [fit(item, kind.value_type) for item in value]
    if pa.types.is_string(kind) and not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if pa.types.is_floating(kind):
        return float(value)  # Arrow refuses whole numbers beyond 2^53 itself
    return value


def schema_of(rows: Iterable[Mapping[str, Any]]) -> pa.Schema:
    """Return the schema that holds all rows."""
    kinds: dict[str, Kind] = {}
    for row in rows:
        for name, value in row.items():
            kinds.setdefault(name, Kind()).add(value)
    return pa.schema([(name, kind.type) for name, kind in kinds.items()])
