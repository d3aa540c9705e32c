"""Raw values as tensors, where a value that can't be read is found and left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from datamodules.modalities.base import Modality, Store
from pipeline.errors import PollinateError


@dataclass
class ReadColumn:
    """store: the values at the places ``good``, ascending; errors: {place: why not}."""

    store: Store
    good: list[int]
    errors: dict[int, str] = field(default_factory=dict)


def read_column(modality: Modality, values: Sequence[Any]) -> ReadColumn:
    """Prepare values as in training; those that can't be are found one by one."""
    store, _ = attempt(modality, values)
    if store is not None:
        return ReadColumn(store, list(range(len(values))))
    tried = ((place, attempt(modality, [value])[1]) for place, value in enumerate(values))
    errors = {place: error for place, error in tried if error}
    good = [place for place in range(len(values)) if place not in errors]
    return ReadColumn(modality.prepare([values[place] for place in good]), good, errors)


def attempt(modality: Modality, values: Sequence[Any]) -> tuple[Store | None, str]:
    """Return (prepared values, "") or (None, why they can't be prepared)."""
    try:
        return modality.prepare(values), ""
    except PollinateError as error:
        return None, str(error)
    except Exception as error:  # noqa: BLE001  # a damaged file can fail in any way in a decoder
        reason = error.strerror if isinstance(error, OSError) else None
        return None, reason or f"{type(error).__name__}: {error}"
