"""Which of the command line's overrides a trial gets, and how an arm's own replace them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.configuration.composition import parse_override
from pipeline.configuration.groups import SHIPPED, options
from pollinate.overrides import override

# keys of the study, and those that it sets for each trial
STUDY_KEYS = ("study", "seeds", "jobs", "timeout", "retries", "launcher", "dry_run")
FIXED_KEYS = ("name", "run_dir", "resume", "tracking.parent")
SHARED_GROUPS = (
    "data",
    "trainer",
    "sampler",
    "tracking",
)  # groups whose options have most in common
RESUME_KEYS = ("allow_targets", "tracking")  # what a run that goes on is told once more


def key_of(text: str) -> str:
    return text.partition("=")[0].lstrip("+~")


def is_below(key: str, top: str) -> bool:
    """Say whether a key is another, or one of its options: ``encoder.text.dim`` of encoder/text."""
    dotted, above = key.replace("/", "."), top.replace("/", ".")
    return dotted == above or dotted.startswith(f"{above}.")


def trial_overrides(overrides: Iterable[str]) -> list[str]:
    kept = [
        text
        for text in overrides
        if not any(is_below(key_of(text), top) for top in (*STUDY_KEYS, *FIXED_KEYS))
    ]
    return [_absolute(text) for text in kept]


def study_overrides(overrides: Iterable[str]) -> list[str]:
    """Return the overrides that say what the study is, with absolute paths of config files.

    ``jobs`` is one of them: threads of a run follow it, and with them the last digits of scores.
    """
    gone = ("run_dir", "resume", "timeout", "retries", "dry_run")
    kept = [text for text in overrides if not any(is_below(key_of(text), top) for top in gone)]
    return [_absolute(text) for text in kept]


def _absolute(text: str) -> str:
    parsed = parse_override(text)
    value = None if parsed.is_delete() else parsed.value()
    if not isinstance(value, str) or not value.endswith((".yaml", ".yml")):
        return text
    file = Path(value).expanduser()
    return override(text.partition("=")[0], file.resolve()) if file.is_file() else text


def combined(*layers: Sequence[str]) -> list[str]:
    """Return overrides of which later ones win.

    ``balancer=upgrad`` in a later layer also takes away ``balancer.x=1`` of an earlier one: those
    are options of another method. A value that a later layer sets again stands there only.
    """
    found: list[str] = []
    for layer in layers:
        for text in layer:
            own = key_of(text)
            replaced = is_group(own)
            found = [
                one
                for one in found
                if not (is_below(key_of(one), own) if replaced else key_of(one) == own)
            ]
        found += layer
    return found


def is_group(key: str) -> bool:
    """Say whether a key chooses a method, whose options mean nothing to another one."""
    return key not in SHARED_GROUPS and bool(options(key, [SHIPPED]))


def resume_overrides(overrides: Iterable[str]) -> list[str]:
    """Return what a run that goes on is told again: secrets are not stored."""
    return [text for text in overrides if any(is_below(key_of(text), top) for top in RESUME_KEYS)]
