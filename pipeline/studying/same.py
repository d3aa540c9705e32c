"""Is it the same study? A folder's configuration against that of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.configuration.flat import flat
from pipeline.errors import UsageError
from pipeline.runs import RunFolder
from pipeline.studying.overrides import is_below
from pipeline.tracking.redact import redact

# what may differ without making another study: how, where and how often it is run
FREE = (
    "run_dir",
    "resume",
    "name",
    "seed",
    "seeds",
    "jobs",
    "timeout",
    "retries",
    "launcher",
    "dry_run",
    "tracking",
    "loader",
    "allow_targets",
)
SHOWN = 6  # keys in a message


def require_same(folder: RunFolder, config: Mapping[str, Any], seeds: Sequence[int]) -> None:
    """Check that a study's folder is that of this configuration; seeds may be added.

    Args:
        folder: of the study.
        config: of the command line.
        seeds: that the study has.

    Raises:
        UsageError: it isn't; names the keys that differ.
    """
    changed = differing(folder.read_config(), redact(config))
    lacking = [seed for seed in seeds if seed not in config["seeds"]]
    if lacking:
        changed.append(f"seeds is {config['seeds']}, there {list(seeds)}; seeds can only be added")
    if changed:
        more = f"; and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise UsageError(
            f"run_dir {folder.path} belongs to another study: {'; '.join(changed[:SHOWN])}{more}. "
            f"Choose another run_dir, or go on with that one: resume={folder.path}"
        )


def differing(saved: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Return ``key is NEW, there OLD`` for each key that makes another study."""
    old, new = dict(flat(saved)), dict(flat(given))

    def text(values: Mapping[str, Any], key: str) -> str:
        return repr(values[key]) if key in values else "not set"

    return [
        f"{key} is {text(new, key)}, there {text(old, key)}"
        for key in sorted(old.keys() | new.keys())
        if text(old, key) != text(new, key) and not any(is_below(key, free) for free in FREE)
    ]


def is_empty(folder: Path) -> bool:
    """Say whether a folder isn't there, or holds nothing."""
    known = (".leader.lock", "config.yaml")  # of a study that was stopped while it was planned
    return not folder.exists() or all(path.name in known for path in folder.iterdir())
