"""Keys of a schema: what a machine can check of their values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any


def key(rule: str, test: Callable[[Any], bool]) -> Any:
    """Return a required key; a value that isn't null must pass the test."""
    return field(metadata={"rule": rule, "test": test})


def default(value: Any, rule: str, test: Callable[[Any], bool]) -> Any:
    """Return a key that may be left out; a value that isn't null must pass the test."""
    return field(default=value, metadata={"rule": rule, "test": test})


def at_least(low: float) -> Any:
    """Return a required number that is at least this."""
    return key(f">= {low}", lambda value: value >= low)


def one_of(*names: str) -> Any:
    """Return a required key whose value is one of these names."""
    return key(f"one of {', '.join(names)}", lambda value: value in names)


def user_path() -> Any:
    """Return a required path; a leading ~ is the home folder."""
    return field(metadata={"user_path": True})
