"""Rules for ``study``: arms name tasks of the data, searches name values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datamodules.dataset_rules import is_number
from pipeline.configuration.groups import SHIPPED, options
from pollinate.suggest import hint, listing, shown

ALL = "all"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
TAKEN = ("multi_task", "single_task", "pair", "group", "transfer")  # names of other arms begin so
SEARCH_KEYS = ("trials", "keys", "storage")
RANGE_KEYS = ("low", "high", "log", "step")
TIMES = "times"  # factors on what a preset chose, in the space of a search


def study_problems(config: Mapping[str, Any]) -> Iterator[str]:
    study, tasks = config.get("study"), task_names(config)
    if not isinstance(study, dict) or not tasks:
        return
    for key in ("pairs", "transfers"):
        yield from _pairs_problems(f"study.{key}", study.get(key), tasks)
    for place, names in enumerate(_lists(study.get("groups"))):
        yield from _names_problems(f"study.groups[{place}]", names, tasks)
    yield from _variant_problems(study.get("variants"))
    yield from _search_problems(study.get("search"))
    known = options("score", [SHIPPED])
    for name in _list(study.get("predictors")):
        if name not in known:
            yield f"study.predictors names {name!r}{hint(str(name), known, 'scores')}"
    yield from _together_problems(config, study, tasks)


def task_names(config: Mapping[str, Any]) -> list[str]:
    data = config.get("data")
    known = data.get("tasks") if isinstance(data, dict) else None
    chosen = config.get("tasks")
    names = list(known) if isinstance(known, dict) else []
    return [name for name in names if name in chosen] if isinstance(chosen, list) else names


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _lists(value: Any) -> list[list[Any]]:
    return [one for one in _list(value) if isinstance(one, list)]


def _pairs_problems(path: str, value: Any, tasks: Sequence[str]) -> Iterator[str]:
    if isinstance(value, str) and value != ALL:
        yield f"{path} must be all, a list such as [[a, b]], or null, got {shown(value)}"
    for place, names in enumerate(_lists(value)):
        yield from _names_problems(f"{path}[{place}]", names, tasks, exactly=2)


def _names_problems(
    path: str, names: Sequence[Any], tasks: Sequence[str], exactly: int | None = None
) -> Iterator[str]:
    unknown = [name for name in names if name not in tasks]
    yield from (f"{path} names {name!r}{hint(str(name), tasks, 'tasks')}" for name in unknown)
    if unknown:
        return
    wanted = "two tasks" if exactly else "two tasks or more"
    if len(set(names)) < len(names) or len(names) < 2 or (exactly and len(names) != exactly):
        yield f"{path} must be {wanted}, each once, got {shown(names)}"


def _variant_problems(variants: Any) -> Iterator[str]:
    for name, overrides in variants.items() if isinstance(variants, dict) else ():
        path = f"study.variants.{name}"
        if not NAME.fullmatch(str(name)) or str(name) in TAKEN:
            yield (
                f"{path}: a variant's name is letters, digits, _, - and ., and none of "
                f"{listing(TAKEN)}; got {shown(name)}"
            )
        words = overrides.split() if isinstance(overrides, str) else overrides
        if not (isinstance(words, list) and words and all(map(_is_override, words))):
            yield f"{path} must be a list such as [balancer=upgrad], got {shown(overrides)}"


def _is_override(word: object) -> bool:
    return isinstance(word, str) and ("=" in word or word.startswith("~"))


def _search_problems(search: Any) -> Iterator[str]:
    if not isinstance(search, dict):
        return
    for key, value in search.items():
        if key not in SEARCH_KEYS:
            guess = hint(str(key), SEARCH_KEYS, "allowed")
            yield f"unknown key study.search.{key}={shown(value)}{guess}"
    trials, keys = search.get("trials", 10), search.get("keys")
    if not isinstance(trials, int) or isinstance(trials, bool) or trials < 1:
        yield f"study.search.trials must be a whole number >= 1, got {shown(trials)}"
    if not isinstance(keys, dict) or not keys:
        yield (
            "study.search.keys must be {key: values}, such as "
            f"{{optimizer.lr: {{low: 1e-4, high: 1e-2, log: true}}}}, got {shown(keys)}"
        )
        return
    if not isinstance(search.get("storage"), str | None):
        yield f"study.search.storage must be an address, got {shown(search['storage'])}"
    for key, values in flat_keys(keys).items():
        yield from values_problems(f"study.search.keys.{key}", values)


def flat_keys(keys: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return {dotted key: values}; on a command line dots make nested mappings."""
    found: dict[str, Any] = {}
    for key, value in keys.items():
        if isinstance(value, dict) and not is_values(value):
            found |= flat_keys(value, f"{path}{key}.")
        else:
            found[f"{path}{key}"] = value
    return found


def is_values(value: Any) -> bool:
    """Say whether something is what a drawn key may be: choices, a range, or factors."""
    return isinstance(value, list) or (
        isinstance(value, dict) and bool(set(value) & {*RANGE_KEYS, TIMES})
    )


def values_problems(path: str, values: Any) -> Iterator[str]:
    """Yield what is wrong with the values that a key may take."""
    if isinstance(values, list) and values:
        return
    if not isinstance(values, dict):
        yield f"{path} must be a list of choices, or {{low: ..., high: ...}}, got {shown(values)}"
        return
    for key in values:
        if key not in RANGE_KEYS:
            yield f"{path} has no key {key!r}{hint(str(key), RANGE_KEYS, 'allowed')}"
    low, high = values.get("low"), values.get("high")
    if not (is_number(low) and is_number(high) and low < high):  # type: ignore[operator]  # numbers
        yield f"{path} must have numbers low < high, got {shown(values)}"
    elif values.get("log") and not low > 0:  # type: ignore[operator]  # a number
        yield f"{path}.low must be > 0 with log: true, got {shown(low)}"


def _together_problems(
    config: Mapping[str, Any], study: Mapping[str, Any], tasks: Sequence[str]
) -> Iterator[str]:
    if len(tasks) < 2:
        yield f"a study compares two tasks or more, the data have {listing(tasks)}"
    if study.get("transfers") and not study.get("single_task"):
        yield "study.transfers begin from the runs of study.single_task; set study.single_task=true"
    if study.get("label_fractions") and config.get("label_fraction") not in (None, 1):
        yield (
            f"label_fraction={shown(config['label_fraction'])} and "
            f"study.label_fractions={shown(study['label_fractions'])} are both "
            "shares of the labels; leave one out"
        )
    arms = ("single_task", "multi_task", "pairs", "groups", "variants")
    if not any(study.get(key) for key in arms):
        yield f"study compares nothing; set one of {', '.join(f'study.{key}' for key in arms)}"
