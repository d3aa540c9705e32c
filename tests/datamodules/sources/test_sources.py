"""Sources: every shipped one, and tables mapped into memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset

from datamodules.cache import Cache
from datamodules.sources.arrow_table import MappedDataset
from datamodules.sources.csv import Csv
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


def test_a_mapped_data_set_is_opened_again_after_it_was_released() -> None:
    opened = []

    def open_it() -> Dataset:
        opened.append(1)
        return Dataset.from_dict({"text": ["a", "b"], "number": [1, 2]})

    mapped = MappedDataset(open_it)
    columns = mapped.columns()
    assert list(columns["text"]) == ["a", "b"]
    assert len(opened) == 1
    mapped.release()
    assert columns["number"][1] == 2
    assert list(columns["text"]) == ["a", "b"]
    assert len(opened) == 2


def test_a_released_table_has_no_file_open(tmp_path: Path) -> None:
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs the list of a process's mapped files")
    (tmp_path / "a.csv").write_text("text,label\n" + "hello,x\n" * 20)
    table = Csv(str(tmp_path / "a.csv")).load(Cache(tmp_path / "cache"))
    assert table.columns["text"][19] == "hello"
    assert str(tmp_path) in maps.read_text()
    table.release()
    assert str(tmp_path) not in maps.read_text()
    assert table.columns["label"][19] == "x"
