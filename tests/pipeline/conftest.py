"""A whole configuration of stand-ins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.configuration.composition import compose
from pollinate.errors import UsageError

CONF = Path(__file__).parent / "conf"
ALLOW = "allow_targets=[tests.pipeline.standins]"

Fit = Callable[..., dict[str, Any]]


@pytest.fixture
def fit() -> Fit:
    """Compose ``fit`` over stand-ins; ``dirs`` are searched before them."""

    def composed(*overrides: str, dirs: tuple[Path, ...] = ()) -> dict[str, Any]:
        return compose("fit", [ALLOW, *overrides], [*dirs, CONF])

    return composed


@pytest.fixture
def refused(fit: Fit) -> Callable[..., str]:
    """Compose what must be refused and return the message."""

    def message(*overrides: str, dirs: tuple[Path, ...] = ()) -> str:
        with pytest.raises(UsageError) as caught:
            fit(*overrides, dirs=dirs)
        return str(caught.value)

    return message
