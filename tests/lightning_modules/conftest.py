"""Warnings that a run silences are silent here, too."""

from __future__ import annotations

import warnings

import pytest

from pipeline.command import HARMLESS_WARNINGS


@pytest.fixture(autouse=True)
def quiet() -> None:
    for message, _ in HARMLESS_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
