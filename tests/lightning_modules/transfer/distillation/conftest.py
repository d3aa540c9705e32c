"""A student with half of its labels, and its teacher."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.mixed import MixedDataModule
from lightning_modules.multitask import MultiTaskModule
from lightning_modules.transfer.source import Source
from tests.lightning_modules.transfer.schools import (
    still,
    teacher,
)
from tests.tiny import labels, multitask, task, texts

HALF = [label if row % 4 < 2 else None for row, label in enumerate(labels(40))]
Run = tuple[MultiTaskModule, MixedDataModule]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A task on texts of which half have a label."""
    data = still({"notes": texts(40, label=HALF)}, {"kind": task("notes")}, tmp_path)
    return multitask(data), data


@pytest.fixture
def source(run: Run) -> Source:
    return teacher(run[1])
