"""Names of classes that Hugging Face's features know: numbers become labels.

A column of ``ClassLabel``, or of lists of it, holds numbers, whose names are in the features: of a
saved data set, or, as JSON, of a Parquet file. Two files may number the same names in another
order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pollinate.errors import PollinateError

FEATURES = b"huggingface"  # key of a schema's metadata


@dataclass(frozen=True)
class ClassNames:
    """Names of a column's class numbers.

    column: its name, for messages; depth: of the lists that the numbers are in, 0 for none.
    """

    column: str
    names: tuple[str, ...]
    depth: int = 0

    def __call__(self, cell: Any) -> Any:
        """Return a cell with names in place of numbers; numbers below 0 are no label.

        Raises:
            PollinateError: a number has no name.
        """
        return self._name(cell, self.depth)

    def _name(self, cell: Any, depth: int) -> Any:
        if cell is None or isinstance(cell, str):
            return cell
        if depth:
            return [self._name(item, depth - 1) for item in cell]
        if cell < 0:
            return None
        if cell >= len(self.names):
            raise PollinateError(
                f"column {self.column} has the class number {cell}, but only {len(self.names)} "
                "names; mend its ClassLabel"
            )
        return self.names[cell]

    def type(self) -> Any:
        """Return the Arrow type of the cells with names."""
        import pyarrow as pa  # type: ignore[import-untyped]  # no types

        found = pa.string()
        for _ in range(self.depth):
            found = pa.list_(found)
        return found


def class_names_of(features: Mapping[str, Any]) -> dict[str, ClassNames]:
    """Return {column: names of its classes} of those that have any.

    Args:
        features: {column: feature}, as ``Features.to_dict`` writes them.
    """
    found = {}
    for column, feature in features.items():
        depth = 0
        while (inner := _item(feature)) is not None:
            feature, depth = inner, depth + 1
        names = feature.get("names") if isinstance(feature, Mapping) else None
        known = isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel"
        if known and isinstance(names, list) and names and all(isinstance(n, str) for n in names):
            found[column] = ClassNames(column, tuple(names), depth)
    return found


def _item(feature: Any) -> Any:
    """Return the feature of a list's items, None for what is no list."""
    if isinstance(feature, list) and len(feature) == 1:
        return feature[0]
    return feature.get("feature") if isinstance(feature, Mapping) else None


def features_in(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """Return {column: feature} that a schema's metadata tells of, nothing if it can't be read."""
    try:
        found = json.loads((metadata or {}).get(FEATURES, b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return dict(found) if isinstance(found, Mapping) else {}
