"""A source whose features are compared."""

from __future__ import annotations

import pytest

from tests.lightning_modules.transfer.features.runs import run
from tests.lightning_modules.transfer.sources import One, source_of


@pytest.fixture
def source() -> One:
    return One(source_of(*run(1)))
