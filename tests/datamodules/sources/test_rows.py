"""Every source gives the rows and columns that its row says."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.cache import Cache
from tests.rows.groups import rows
from tests.rows.row import Row, ids


@pytest.mark.parametrize("row", rows("source"), ids=ids)
def test_row(row: Row, tmp_path: Path) -> None:
    source = row.build()
    columns = source.load(Cache(tmp_path)).columns
    count, names = row.expected
    assert columns.keys() == names
    assert {len(values) for values in columns.values()} == {count}
    assert source.location
