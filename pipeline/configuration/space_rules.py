"""Rules for ``search``: the time is one, and the space names values that a run may have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from datamodules.dataset_rules import is_number
from pipeline.configuration.study_rules import TIMES, flat_keys, values_problems
from pollinate.suggest import shown

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
TIME = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
# what all of a search's models have in common: their answers to the same rows are averaged
TARGETS = ("dataset", "target", "type")  # of a task: what its answers are compared with
COMMON = ("data", "tasks", "label_fraction", "seed", "keep_outputs", "pause_after", "preset")


def seconds_of(time: Any) -> float | None:
    """Return the seconds of ``90s``, ``30m``, ``8h`` or ``2d``, None if it is no such time."""
    found = TIME.fullmatch(time.strip()) if isinstance(time, str) else None
    seconds = float(found[1]) * UNITS[found[2]] if found else None
    return seconds if seconds else None


def is_common(key: str) -> bool:
    """Say whether a key must be the same for all models of a search."""
    top, *rest = key.replace("/", ".").split(".")
    of_training = top == "data" and rest[:1] == ["tasks"] and rest[-1] not in TARGETS
    return top in COMMON and not of_training


def search_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a search's own keys."""
    if seconds_of(config.get("time_limit")) is None:
        yield (
            "time_limit must be a time with its unit, such as 90s, 30m or 8h, got "
            f"{shown(config.get('time_limit'))}"
        )
    space = config.get("space")
    keys = space.get("keys") if isinstance(space, dict) else None
    for key, values in flat_keys(keys).items() if isinstance(keys, dict) else ():
        path = f"space.keys.{key}"
        if is_common(key):
            yield f"{path} can't differ between the models of a search, whose answers are averaged"
        elif isinstance(values, dict) and TIMES in values:
            yield from _times_problems(path, values)
        else:
            yield from values_problems(path, values)


def _times_problems(path: str, values: Mapping[str, Any]) -> Iterator[str]:
    factors = values[TIMES]
    pair = isinstance(factors, list) and len(factors) == 2 and all(map(is_number, factors))
    if len(values) > 1 or not pair or not 0 < factors[0] < factors[1]:
        yield f"{path} must be {{times: [low, high]}} with 0 < low < high, got {shown(values)}"
