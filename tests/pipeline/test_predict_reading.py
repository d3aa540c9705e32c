"""Predict reads a file as training read its files, unless the command line says otherwise."""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from datamodules.dataset import Dataset
from datamodules.mixed_datamodule import MixedDataModule
from datamodules.sources.csv import Csv
from datamodules.table import as_text
from lightning_modules.predictor import Predictor
from lightning_modules.tasks.base import label_text
from lightning_modules.tasks.classification import Classification
from pipeline.prediction.input_files import (
    FolderRows,
    OpenedInput,
    ReaderOptions,
    TrainedReading,
    open_input,
)
from pipeline.prediction.inputs import raw_values
from pipeline.prediction.output_files import as_cell
from pipeline.prediction.predict_frame import FrameRows
from pollinate.errors import PollinateError, UsageError

SEMICOLON = {
    "format": "csv",
    "delimiter": ";",
    "quote": '"',
    "encoding": "iso8859-1",
    "empty": ["", "N/A"],
}
TRAINED = [TrainedReading("shop", frozenset({"text"}), SEMICOLON)]


def opened(path: Path, text: str, saved: str = "latin-1", **options: Any) -> OpenedInput:
    path.write_text(text, encoding=saved)
    return open_input(path, ReaderOptions(**options), TRAINED, ["text"])


def texts(found: OpenedInput) -> list[Any]:
    rows = list(found.rows.rows())
    values, errors = raw_values(rows, {"text": "text"}, found.rows.folder, found.rows.empty)
    assert not errors
    return values["text"]


def test_a_file_is_read_as_in_training(tmp_path: Path) -> None:
    found = opened(tmp_path / "a.csv", "text;label\ncafé;a\nN/A;b\n")
    assert texts(found) == ["café", None]
    words = "empty=['N/A'], encoding='iso8859-1', delimiter=';'"
    assert found.note == f"read as data set shop was: {words}"


@pytest.mark.parametrize(("ending", "between"), [(".csv", ","), (".tsv", "\t")])
def test_another_delimiter_is_that_of_the_ending(ending: str, between: str, tmp_path: Path) -> None:
    assert texts(opened(tmp_path / f"a{ending}", f"text{between}label\ncafé{between}a\n")) == [
        "café"
    ]


def test_the_command_line_wins(tmp_path: Path) -> None:
    path, options = tmp_path / "a.csv", {"encoding": "utf-8", "delimiter": "|", "empty": ["-"]}
    found = opened(path, "text|label\ncafé|a\n-|b\nN/A|c\n", "utf-8", **options)
    assert texts(found) == ["café", None, "N/A"] and found.note == ""
    found = opened(path, 'text;label\n"it";a\nend";b\n', quote="none")
    assert texts(found) == ['"it"', 'end"']


def test_utf8_is_not_read_by_another_encoding_of_training(tmp_path: Path) -> None:
    with pytest.raises(PollinateError, match="is UTF-8, and training read iso8859-1; say which"):
        opened(tmp_path / "a.csv", "text;label\ncafé;a\n", "utf-8")
    assert texts(opened(tmp_path / "a.csv", "text;label\ntea;a\n", "utf-8")) == ["tea"]


def test_the_data_set_whose_column_the_file_has_counts(tmp_path: Path) -> None:
    other = {**SEMICOLON, "delimiter": "|", "encoding": "utf-8", "empty": [""]}
    trained = [TrainedReading("notes", frozenset({"note"}), other), *TRAINED]
    (tmp_path / "a.csv").write_text("text;label\nN/A;a\n")
    found = open_input(tmp_path / "a.csv", ReaderOptions(), trained)
    assert texts(found) == [None] and "data set shop" in found.note


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", '[{"text": "tea"}, {"text": "N/A"}]'),
        ("a.json", '{"text": "tea"}\n{"text": "N/A"}\n'),
        ("a.jsonl", '{"text": "tea"}\n{"text": "N/A"}\n'),
        ("a.ndjson", '{"text": "tea"}\n{"text": "N/A"}\n'),
    ],
)
def test_json_of_every_form(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    reading = TrainedReading("shop", frozenset({"text"}), {"format": "json", "empty": ["N/A"]})
    assert texts(open_input(tmp_path / name, ReaderOptions(), [reading])) == ["tea", None]
    usual = open_input(tmp_path / name, ReaderOptions(), TRAINED, ["text"])
    assert texts(usual) == ["tea", "N/A"]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("a.txt", {"delimiter": ","}, "delimiter is not for .txt files"),
        ("a.jsonl", {"quote": "none"}, "quote is not for .jsonl files"),
        ("", {"encoding": "utf-8"}, "encoding is not for folders"),
        ("a.csv", {"delimiter": ",,"}, "delimiter must be one character"),
        ("a.csv", {"encoding": "latin1x"}, "encoding must be one that Python knows"),
        ("a.csv", {"folder": "nowhere"}, "folder must be a folder that is there, got nowhere"),
    ],
)
def test_options_that_do_not_fit(
    name: str, options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("tea\n")
    for other in ("a.csv", "a.jsonl"):
        (tmp_path / other).write_text("text\ntea\n")
    with pytest.raises(UsageError, match=said):
        open_input(tmp_path / name, ReaderOptions(**options))


def test_relative_paths_begin_in_the_folder_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "pictures" / "a.png")
    (tmp_path / "a.csv").write_text("image,n\na.png,1\n")
    options = ReaderOptions(folder=str(tmp_path / "pictures"))
    rows = open_input(tmp_path / "a.csv", options).rows
    values, _ = raw_values(list(rows.rows()), {"image": "image"}, rows.folder)
    assert values["image"] == [tmp_path / "pictures" / "a.png"]


def test_a_folder_has_the_columns_of_its_metadata(tmp_path: Path) -> None:
    for name in ("a", "b", "mask"):
        Image.new("L", (4, 4)).save(tmp_path / f"{name}.png")
    (tmp_path / "metadata.csv").write_text("file_name,caption,mask\na.png,good tea,mask.png\n")
    source = FolderRows(tmp_path)
    assert source.columns == ["path", "caption", "mask"]
    assert [row.values for row in source.rows()] == [
        {"path": "a.png", "caption": "good tea", "mask": "mask.png"},
        {"path": "b.png", "caption": None, "mask": None},
    ]


def test_checkpoints_know_how_files_were_read(tmp_path: Path) -> None:
    lines = [f"text {n};{'ab'[n % 2]}" for n in range(20)]
    (tmp_path / "a.csv").write_text("\n".join(["text;label", *lines]))
    source = Csv(str(tmp_path / "a.csv"), ";", empty=["N/A"])
    sets = {
        "shop": Dataset(source, inputs={"text": "text"}),
        "frame": Dataset(pd.DataFrame({"text": ["a", "b"] * 9}), inputs={"text": "text"}),
    }
    data = MixedDataModule(sets, {"kind": Classification("shop", "label", unlabelled="frame")})
    data.setup()
    readings = data.learnt_state()["readings"]
    assert readings == {
        "shop": {
            **{"format": "csv", "delimiter": ";", "quote": '"'},
            **{"encoding": "utf-8", "empty": ["", "N/A"]},
        },
        "frame": {},
    }
    assert json.dumps(readings)


def test_words_that_are_empty_in_all_data_sets_are_so_in_frames() -> None:
    class Known(Predictor):
        def __init__(self, readings: dict[str, Any]) -> None:
            self.inputs, self.readings = {"a": {"text": "text"}, "b": {"text": "text"}}, readings

    both = {"a": {"empty": ["", "N/A", "-"]}, "b": {"empty": ["", "N/A"]}}
    assert Known(both).empty_words == {"", "N/A"}
    assert Known({"a": both["a"]}).empty_words == frozenset()
    rows = FrameRows({"text": ["N/A", "tea"]})
    values, _ = raw_values(list(rows.rows()), {"text": "text"}, rows.folder, {"N/A"})
    assert values["text"] == [None, "tea"]


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (5.0, "5"),
        (5.5, "5.5"),
        (datetime(2020, 1, 2), "2020-01-02"),
        (pd.Timestamp("2020-01-02"), "2020-01-02"),
        (date(2020, 1, 2), "2020-01-02"),
        (datetime(2020, 1, 2, 3), "2020-01-02 03:00:00"),
        (Decimal("1.50"), "1.50"),
        (float("inf"), "inf"),
    ],
)
def test_a_value_is_one_text_whatever_keeps_it(cell: Any, text: str) -> None:
    assert as_text(cell) == label_text(cell) == text


def test_times_and_decimals_are_written_without_quotes() -> None:
    assert as_cell(datetime(2020, 1, 2, 3)) == "2020-01-02 03:00:00"
    assert as_cell(Decimal("1.50")) == "1.50"
    assert as_cell(["a", 1]) == '["a", 1]'
