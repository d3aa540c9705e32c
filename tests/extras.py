"""Packages that only some installations have."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


def needs(*packages: str) -> pytest.MarkDecorator:
    """Skip tests where a package is missing.

    Unlike ``importorskip`` at the top of a file, it imports none while tests are collected, which
    every process does with all files.
    """
    missing = [name for name in packages if find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")
