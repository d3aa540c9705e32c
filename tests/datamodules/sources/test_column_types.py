"""Types of columns: one for all files, without loss, or a refusal that names the column."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.cache import Cache
from datamodules.dataset import Dataset
from datamodules.loading import load_dataset
from datamodules.sources.arrow import Arrow
from datamodules.sources.json import Json
from datamodules.sources.parquet import Parquet, ParquetRows
from datamodules.table import SourceTable
from lightning_modules.tasks.classification import Classification
from pollinate.errors import PollinateError

MOMENT = pa.timestamp("us")


def parquet(folder: Path, *arrays: pa.Array) -> Parquet:
    """A source of one file for each array, its column ``y``."""
    for number, array in enumerate(arrays):
        pq.write_table(
            pa.table({"y": array, "n": range(len(array))}), folder / f"part-{number}.parquet"
        )
    return Parquet(str(folder / "part-*.parquet"))


def cells(source: Parquet, folder: Path) -> list[Any]:
    return list(source.load(Cache(folder / "cache")).columns["y"])


ARRAYS = {
    "int": pa.array([1, 2]),
    "small": pa.array([3], pa.int8()),
    "float": pa.array([1.75]),
    "float32": pa.array([0.5], pa.float32()),
    "half": pa.array([0.5], pa.float16()),
    "null": pa.nulls(2),
    "text": pa.array(["a", "1"]),
    "large": pa.array(["b"], pa.large_string()),
    "view": pa.array(["b"], pa.string_view()),
    "words": pa.array(["b"]).dictionary_encode(),
    "date": pa.array([date(2020, 1, 2)]),
    "moment": pa.array([datetime(2020, 1, 2, 5)], MOMENT),
    "decimal": pa.array([Decimal("1.50")]),
    "ints": pa.array([[1], None]),
    "floats": pa.array([[1.5]]),
    "pair": pa.array([[1.0, 2.0]], pa.list_(pa.float64(), 2)),
    "struct": pa.array([{"a": 1}]),
    "wider": pa.array([{"a": 1.5, "b": "x"}]),
}
HELD: dict[tuple[str, str], list[Any]] = {
    ("int", "float"): [1.0, 2.0, 1.75],
    ("small", "int"): [3, 1, 2],
    ("float32", "float"): [0.5, 1.75],
    ("half", "int"): [0.5, 1.0, 2.0],
    ("null", "text"): [None, None, "a", "1"],
    ("null", "floats"): [None, None, [1.5]],
    ("text", "large"): ["a", "1", "b"],
    ("view", "words"): ["b", "b"],
    ("int", "text"): ["1", "2", "a", "1"],
    ("date", "moment"): [datetime(2020, 1, 2), datetime(2020, 1, 2, 5)],
    ("decimal", "float"): [1.5, 1.75],
    ("ints", "floats"): [[1.0], None, [1.5]],
    ("ints", "pair"): [[1.0], None, [1.0, 2.0]],
    ("struct", "wider"): [{"a": 1.0, "b": None}, {"a": 1.5, "b": "x"}],
}


@pytest.mark.parametrize("names", HELD, ids="+".join)
def test_a_column_holds_the_values_of_all_files(names: tuple[str, str], tmp_path: Path) -> None:
    both = [ARRAYS[name] for name in names]
    assert cells(parquet(tmp_path, *both), tmp_path) == HELD[names]
    other = parquet(tmp_path, *reversed(both))
    assert sorted(map(repr, cells(other, tmp_path))) == sorted(map(repr, HELD[names]))


def test_streamed_cells_have_the_type_of_all_files(tmp_path: Path) -> None:
    source = parquet(tmp_path, ARRAYS["int"], ARRAYS["text"])
    assert list(source.stream(Cache(tmp_path), ["y"]).columns["y"]) == ["1", "2", "a", "1"]


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (pa.array([True]), pa.array([1]), "no type holds both bool and int64"),
        (
            pa.array([datetime(2020, 1, 1)], pa.timestamp("us", "UTC")),
            ARRAYS["moment"],
            "no type holds both timestamp[us, tz=UTC] and timestamp[us]",
        ),
        (
            pa.array([datetime(2020, 1, 1)], pa.timestamp("us", "UTC")),
            pa.array([datetime(2020, 1, 1)], pa.timestamp("us", "Europe/Berlin")),
            "tz=Europe/Berlin",
        ),
        (ARRAYS["ints"], ARRAYS["int"], "no type holds both"),
        (pa.array([Decimal("1." + "1" * 20)]), ARRAYS["float"], "more digits than double holds"),
    ],
)
def test_what_no_type_holds_is_refused_by_name_where_it_is_read(
    first: pa.Array, second: pa.Array, why: str, tmp_path: Path
) -> None:
    table = parquet(tmp_path, first, second).load(Cache(tmp_path / "cache"))
    assert "y" not in table.columns
    assert why in table.unread["y"] and "part-1.parquet" in table.unread["y"]


@pytest.mark.parametrize("as_json", [False, True])
def test_whole_numbers_that_a_float_would_round_are_refused(as_json: bool, tmp_path: Path) -> None:
    large = 2**53 + 1
    source: Any = parquet(tmp_path, pa.array([large]), ARRAYS["float"])
    if as_json:
        (tmp_path / "a.jsonl").write_text(f'{{"y": {large}}}\n{{"y": 1.5}}\n')
        source = Json(str(tmp_path / "a.jsonl"))
    with pytest.raises(PollinateError, match=f"1, column y: {large} is no double: .* more digits"):
        source.load(Cache(tmp_path / "cache"))


def load(source: Any, folder: Path) -> SourceTable:
    split = {"train": 0.6, "valid": 0.2, "test": 0.2}
    task = Classification("shop", target="label")
    dataset = Dataset(source, inputs={"text": "text"}, split=split)
    return load_dataset("shop", dataset, {"kind": task}, 0, Cache(folder / "cache")).table


def write_stream(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


TEXTS = {"text": [f"row {n}" for n in range(20)], "label": ["a", "b"] * 10}
MAP = pa.array([[("k", 1)]] * 20, pa.map_(pa.string(), pa.int64()))


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_column_that_nothing_reads_stops_nothing(kind: str, tmp_path: Path) -> None:
    table = pa.table({**TEXTS, "other": MAP})
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        write_stream(path, table)
    source = Parquet(str(path)) if kind == "parquet" else Arrow(str(path))
    assert list(load(source, tmp_path).columns["label"]) == TEXTS["label"]
    task = Classification("shop", target="other")
    dataset = Dataset(source, inputs={"text": "text"}, split={"train": 1})
    with pytest.raises(PollinateError, match=r"column 'other', which can't be read: .* is map<"):
        load_dataset("shop", dataset, {"kind": task}, 0, Cache(tmp_path / "cache"))


def test_only_the_columns_that_are_needed_are_kept(tmp_path: Path) -> None:
    pq.write_table(pa.table({**TEXTS, "a": [b"x" * 10_000] * 20}), tmp_path / "a.parquet")
    pq.write_table(pa.table({**TEXTS, "b": [1] * 20}), tmp_path / "b.parquet")
    source = Parquet([str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")])
    table = load(source, tmp_path)
    assert list(table.columns) == ["text", "label"] and table.names == ["text", "label", "a", "b"]
    assert sum(file.stat().st_size for file in (tmp_path / "cache").rglob("*.arrow")) < 20_000


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(PollinateError, match="must be given and differ, got text twice; rename"):
        ParquetRows(tmp_path / "a.parquet")
    write_stream(tmp_path / "a.arrow", table)
    with pytest.raises(PollinateError, match="got text twice"):
        Arrow(str(tmp_path / "a.arrow")).load(Cache(tmp_path))


def test_a_json_object_with_a_name_twice_is_a_bad_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "text": "b"}\n{"text": "c"}\n')
    table = Json(str(tmp_path / "a.jsonl")).load(Cache(tmp_path / "cache"))
    assert table.bad == {0: "the object has the name 'text' twice"}


def named(names: list[str], numbers: list[Any]) -> datasets.Dataset:
    """Two columns of classes: one a row, and a list of them."""
    label = datasets.ClassLabel(names=names)
    features = {"label": label, "tags": datasets.Sequence(label), "text": datasets.Value("string")}
    texts = [f"row {n}" for n in range(len(numbers))]
    table = {"label": numbers, "tags": [[n] for n in numbers], "text": texts}
    return datasets.Dataset.from_dict(table, features=datasets.Features(features))


FIRST = named(["bad", "good"], [0, 1, None, -1])
SECOND = named(["good", "bad"], [0, 1])
NAMES = ["bad", "good", None, None, "good", "bad"]


def saved(folder: Path, kind: str) -> Any:
    """Both parts as one source."""
    if kind == "python":
        whole = Dataset(FIRST, valid=SECOND, test=SECOND, inputs={"text": "text"})
        return whole.source
    if kind == "parquet":
        FIRST.to_parquet(str(folder / "a.parquet"))
        SECOND.to_parquet(str(folder / "b.parquet"))
        return Parquet(str(folder / "*.parquet"))
    if kind == "transformed":  # by a function of the user's, called for each item
        both = [part.with_transform(lambda rows: rows) for part in (FIRST, SECOND)]
        return Dataset(both[0], valid=both[1], inputs={"text": "text"}).source
    FIRST.save_to_disk(str(folder / "a"))
    SECOND.save_to_disk(str(folder / "b"))
    return Arrow([str(folder / "a"), str(folder / "b")])


@pytest.mark.parametrize("kind", ["arrow", "parquet", "python", "transformed"])
def test_class_numbers_are_read_as_their_names(kind: str, tmp_path: Path) -> None:
    columns = saved(tmp_path, kind).load(Cache(tmp_path / "cache")).columns
    assert list(columns["label"])[:6] == NAMES
    assert list(columns["tags"])[:6] == [[name] for name in NAMES]
    if kind == "parquet":
        (row, *_) = ParquetRows(tmp_path / "b.parquet").rows()
        assert row.values["label"] == "good"  # in an input of predict, too


def test_a_class_number_without_a_name_is_refused(tmp_path: Path) -> None:
    named(["a", "b", "c"], [2, 1]).to_parquet(str(tmp_path / "a.parquet"))
    table = pq.read_table(tmp_path / "a.parquet")
    text = table.schema.metadata[b"huggingface"].replace(b', "c"', b"")
    pq.write_table(table.replace_schema_metadata({b"huggingface": text}), tmp_path / "a.parquet")
    with pytest.raises(PollinateError, match="class number 2, but only 2 names"):
        Parquet(str(tmp_path / "a.parquet")).load(Cache(tmp_path / "cache"))
