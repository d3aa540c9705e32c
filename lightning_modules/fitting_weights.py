"""Do a checkpoint's weights fit a module?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pipeline.errors import PollinateError

MADE_LATER = "balancer."  # a balancer may have state that it makes at its first step only


def require_fit(own: Mapping[str, Tensor], checkpoint: Mapping[str, Any]) -> None:
    """Check that names and shapes agree, before any weight is taken.

    Raises:
        PollinateError: they differ: the classes have changed since.
    """
    saved = checkpoint["state_dict"]
    wrong = [
        f"{name}: {shape_text(saved.get(name))} saved, {shape_text(own.get(name))} here"
        for name in sorted(own.keys() | saved.keys())
        if (name in own or not name.startswith(MADE_LATER))
        and shape_text(own.get(name)) != shape_text(saved.get(name))
    ]
    if wrong:
        raise PollinateError(
            f"the checkpoint's weights don't fit: {'; '.join(wrong[:5])}"
            f"{f'; and {len(wrong) - 5} more' if len(wrong) > 5 else ''}. It was written by "
            f"pollinate {checkpoint['pollinate'].get('version')}: use that version"
        )


def shape_text(tensor: Tensor | None) -> str:
    """Return ``(3, 4)``, or ``nothing`` for None."""
    return "nothing" if tensor is None else str(tuple(tensor.shape))
