"""Which of the command line's overrides a trial gets, and how an arm's own replace them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.configuration.composition import load_yaml, parse_override
from pipeline.configuration.groups import SHIPPED, find_option, options
from pipeline.configuration.interpolations import names_more_than_keys
from pipeline.tracking.addresses import own_address, own_addresses, without_login
from pipeline.tracking.redact import redact_text
from pollinate.errors import UsageError
from pollinate.overrides import override
from pollinate.recipes import TARGET

# keys of the study, and those that it sets for each trial
STUDY_KEYS = ("study", "seeds", "jobs", "timeout", "retries", "engine", "launcher", "dry_run")
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


# keys that say what is started and where, which code is used and where results go, as no file may
COMMANDS = ("engine", "launcher", "allow_targets", "tracking", "hydra", "run_dir", "resume")
TOLD_AGAIN = ("engine", "launcher", "allow_targets")


def refuse_commands(where: str, overrides: Iterable[str]) -> None:
    """Check that what a file adds to a trial's command line is about the training only.

    Raises:
        UsageError: it says what is started, which code is used or where results go, or reads the
            environment.
    """
    for text in overrides:
        if any(is_below(key_of(text), top) for top in COMMANDS) or names_more_than_keys(text):
            raise UsageError(f"{where} sets {text:.80}, which only the command line may say")


def told_again(overrides: Iterable[str], config_dirs: Iterable[str]) -> list[str]:
    """Return the part of a study's command line that its folder can't say for the user.

    Args:
        overrides: of the study; config_dirs: of its command line.
    """
    own = own_addresses()
    found = []
    for text in overrides:
        key, _, value = text.partition("=")
        key = key_of(key)
        if key == "tracking":
            wanted = value not in options("tracking", [SHIPPED])
        elif key == "tracking.uri":
            wanted = value != "null" and own_address(value.strip("'\""), own) is None
        else:
            here = key == "engine" and value == "local"
            wanted = not here and any(is_below(key, top) for top in TOLD_AGAIN)
        if wanted or names_more_than_keys(text):
            found.append(without_login(redact_text(text)))
    return [*found, *(f"--config-dir={folder}" for folder in config_dirs)]


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
    are options of another method. So does ``tracking=none`` with ``tracking.uri``, which it hasn't.
    A value that a later layer sets again stands there only.
    """
    found: list[str] = []
    for layer in layers:
        for text in layer:
            found = [one for one in found if not replaces(text, one)]
        found += layer
    return found


def replaces(text: str, other: str) -> bool:
    """Say whether an override takes an earlier one away."""
    own, theirs = key_of(text), key_of(other)
    if own == theirs:
        return True
    if not is_below(theirs, own):
        return False
    known = options_of(own, text.partition("=")[2]) if own in SHARED_GROUPS else ()
    option = theirs.replace("/", ".").removeprefix(f"{own}.").partition(".")[0]
    return is_group(own) if own not in SHARED_GROUPS else known is not None and option not in known


def options_of(group: str, name: str) -> list[str] | None:
    """Return the options of a class that a group's shipped option stands for, None for others."""
    file = find_option(group, name, [SHIPPED])
    keys = None if file is None else list(load_yaml(file))
    return keys if keys is not None and TARGET in keys else None


def is_group(key: str) -> bool:
    """Say whether a key chooses a method, whose options mean nothing to another one."""
    return key not in SHARED_GROUPS and bool(options(key, [SHIPPED]))


def resume_overrides(overrides: Iterable[str]) -> list[str]:
    """Return what a run that goes on is told again: secrets are not stored."""
    return [text for text in overrides if any(is_below(key_of(text), top) for top in RESUME_KEYS)]
