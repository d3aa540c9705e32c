"""Warnings that a run silences are silent here, too."""

from __future__ import annotations

import warnings

import pytest

from pipeline.quiet import HARMLESS


@pytest.fixture(autouse=True)
def quiet() -> None:
    for message, _ in HARMLESS:
        warnings.filterwarnings("ignore", message=message)
