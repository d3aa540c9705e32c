"""How answers are written, where that is to be otherwise than in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pollinate.errors import UsageError
from pollinate.suggest import hint

NUMBER = (int, float)
OPTIONS: Mapping[str, tuple[type, ...]] = {  # as the type generation has them
    "max_answer": (int,),
    "beams": (int,),
    "temperature": (*NUMBER, type(None)),
    "top_k": (int, type(None)),
    "top_p": (*NUMBER, type(None)),
    "seed": (int,),
    "stop": (list, tuple),
}


def checked_decoding(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of decoding; what they may be in full is checked by the tasks.

    Raises:
        UsageError: an option isn't known, or of another type.
    """
    for name, value in given.items():
        if name not in OPTIONS:
            raise UsageError(f"decoding takes no {name!r}{hint(name, OPTIONS, 'options')}")
        if isinstance(value, bool) or not isinstance(value, OPTIONS[name]):
            kinds = " or ".join(
                "null" if kind is type(None) else kind.__name__ for kind in OPTIONS[name]
            )
            raise UsageError(f"decoding.{name} must be {kinds}, got {value!r}")
    return dict(given)
