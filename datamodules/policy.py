"""What to do about faults of the data."""

from __future__ import annotations

from dataclasses import dataclass, field

from datamodules.cache import Cache, default_cache


@dataclass
class Policy:
    """What to do about faults of the data.

    skip_bad_rows: leave rows out that can't be read; else they are an error.
    strict: rows of valid or test that stand in an earlier split, too, are an error.
    cache: where results are kept that take long to compute.
    """

    skip_bad_rows: bool = False
    strict: bool = False
    cache: Cache = field(default_factory=lambda: Cache(default_cache()))
