"""Names that MLflow accepts for metrics and parameters."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

_REFUSED = re.compile(r"[^\w.\- /]")
_PARTS = re.compile(r"/+")


@lru_cache(maxsize=100_000)
def clean_name(name: str, limit: int) -> str:
    """Replace what MLflow refuses or drops by "_"; "/" stays, it groups the charts.

    Args:
        name: a metric's or parameter's name.
        limit: longest name, characters; a longer one is cut and marked with a hash.
    """
    parts = [part for part in _PARTS.split(_REFUSED.sub("_", name)) if part]
    clean = "/".join("_" if set(part) == {"."} else part for part in parts) or "_"
    if len(clean) <= limit:
        return clean
    return f"{clean[: limit - 9]}-{hashlib.sha256(clean.encode()).hexdigest()[:8]}"
