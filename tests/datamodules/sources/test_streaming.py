"""Rows that stay in their files are the rows that would have been copied."""

from __future__ import annotations

import json
import pickle
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datamodules.cache import Cache
from datamodules.mixed_datamodule import MixedDataModule
from datamodules.row_order import LaneStream
from datamodules.sources.base import FileSource
from datamodules.sources.csv import Csv
from datamodules.sources.json import Json
from datamodules.sources.parquet import Parquet
from datamodules.sources.row_files import BLOCK_ROWS
from pollinate.errors import PollinateError
from tests.shops import data, loaded, write

ROWS = 3 * BLOCK_ROWS + 37
SPLIT = {"files": {"train": "train-*.{}", "valid": "valid.{}", "test": "test.{}"}}


def rows(count: int = ROWS) -> list[dict[str, Any]]:
    return [
        {"text": f'row "{n}", {"long " * (n % 7)}\nend' if n % 5 else f"r{n}", "label": "ab"[n % 2]}
        for n in range(count)
    ]


def write_csv(path: Path, table: list[dict[str, Any]]) -> None:
    cells = [[str(row[name]).replace('"', '""') for name in ("text", "label")] for row in table]
    lines = ["text,label", *(",".join(f'"{cell}"' for cell in row) for row in cells)]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\r\n")


def write_json(path: Path, table: list[dict[str, Any]]) -> None:
    path.write_text("\n\n".join(json.dumps(row) for row in table) + "\n")


def write_parquet(path: Path, table: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(table), path, row_group_size=2 * BLOCK_ROWS - 11)


KINDS: dict[str, tuple[type[FileSource], Any, str]] = {
    "csv": (Csv, write_csv, "csv"),
    "json": (Json, write_json, "jsonl"),
    "parquet": (Parquet, write_parquet, "parquet"),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
def test_streamed_cells_are_the_copied_ones(kind: str, tmp_path: Path) -> None:
    source, writer, suffix = KINDS[kind]
    for number in range(2):
        writer(tmp_path / f"part-{number}.{suffix}", rows(ROWS - number))
    made = source(str(tmp_path / f"part-*.{suffix}"))
    whole = made.load(Cache(tmp_path / "cache"))
    streamed = made.stream(Cache(tmp_path / "cache"), ["text"])
    assert len(streamed) == len(whole) == 2 * ROWS - 1
    order = np.random.default_rng(0).permutation(len(whole))
    for name in ("text", "label"):
        assert list(streamed.columns[name]) == list(whole.columns[name])
        assert list(streamed.columns[name].take(order)) == list(whole.columns[name].take(order))
    assert streamed.digest == whole.digest
    for row in (0, ROWS - 1, ROWS, 2 * ROWS - 2):
        assert streamed.place(row) == whole.place(row)
    assert streamed.streamed["text"].all()


def shop(folder: Path, kind: str, streaming: bool, **options: Any) -> MixedDataModule:
    _, writer, suffix = KINDS[kind]
    table = rows(400)
    for name, part in (
        ("train-0", table[:150]),
        ("train-1", table[150:300]),
        ("valid", table[300:350]),
        ("test", table[350:]),
    ):
        writer(folder / f"{name}.{suffix}", part)
    files = {split: pattern.format(suffix) for split, pattern in SPLIT["files"].items()}
    spec = data(kind, split={"files": files}, streaming=streaming, **options)
    return loaded(folder, spec, "data.text.dropout=0.3", "sampler.batch_size=16")


@each_kind
def test_batches_are_those_of_the_copied_rows(kind: str, tmp_path: Path) -> None:
    streamed, whole = (shop(tmp_path, kind, flag) for flag in (True, False))
    assert streamed.learnt_state() == whole.learnt_state()
    for batch, _ in zip(streamed.train_dataloader(), range(3), strict=False):
        own = batch.batches["shop"]
        passes = np.zeros(len(own.index), np.int64)
        other = whole.parts["train"]["shop"].augmented(own.index.numpy(), 0, passes)
        assert torch.equal(own.inputs["text"], other.inputs["text"])
        assert torch.equal(own.targets["kind"], other.targets["kind"])
    for one, other in zip(streamed.test_dataloader(), whole.test_dataloader(), strict=True):
        assert sorted(one.batches["shop"].index) == sorted(other.batches["shop"].index)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_goes_on_where_it_stopped(workers: int, tmp_path: Path) -> None:
    whole, first, second = (shop(tmp_path, "csv", True) for _ in range(3))
    for module in (first, second):
        module.workers = workers
    expected = [step.batches["shop"].inputs["text"] for step in whole.train_dataloader()]
    list(islice(first.train_dataloader(), 1))
    second.load_state_dict(first.state_dict())
    found = [step.batches["shop"].inputs["text"] for step in second.train_dataloader()]
    for one, other in zip(found, expected[1:], strict=False):
        assert torch.equal(one, other)


def test_what_cannot_be_streamed_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"shop.json": json.dumps(rows(8))})
    with pytest.raises(PollinateError, match="can't be streamed, it is read as a whole"):
        loaded(tmp_path, data("json", path="shop.json", streaming=True))
    with pytest.raises(PollinateError, match="streaming is for sources csv, tsv, json and parquet"):
        loaded(tmp_path, data("arrow", path="shop.arrow", streaming=True))


def test_a_bad_row_and_a_wrong_byte_are_named(tmp_path: Path) -> None:
    write(tmp_path, {"shop.csv": "text,label\n" + "a,b\nc,d\n" * 9 + "only one\n"})
    with pytest.raises(PollinateError, match="line 20, a row must have 2 cells"):
        loaded(tmp_path, data(streaming=True))
    write(tmp_path, {"shop.csv": b"text,label\na,b\n\xfc,d\n"})
    with pytest.raises(PollinateError, match="must be UTF-8, found byte 0xfc in line 3"):
        loaded(tmp_path, data(streaming=True))


sizes, counts = st.integers(1, 3000), st.integers(1, 40)


@given(sizes, counts, st.integers(1, 200), st.integers(0, 3))
def test_every_row_comes_once_a_pass(size: int, count: int, buffer: int, turn: int) -> None:
    stream = LaneStream(0, "a", size, count, buffer)
    lanes = [stream._order(lane, turn) for lane in range(stream.lanes)]
    assert sorted(np.concatenate(lanes).tolist()) == list(range(size))
    assert max(map(len, lanes)) - min(map(len, lanes)) <= 2 * stream.block


@given(sizes, counts, st.integers(0, 60))
def test_a_stretch_is_a_function_of_its_place(size: int, count: int, step: int) -> None:
    used = LaneStream(0, "a", size, count)
    for other in range(step):
        used.rows(other * count, count)
    fresh = pickle.loads(pickle.dumps(used))
    whole = fresh.rows(0, (step + 1) * count)
    for one, other in zip(used.rows(step * count, count), whole, strict=True):
        assert np.array_equal(one, other[-count:])


def test_the_stream_uses_up_every_lane_alike() -> None:
    stream = LaneStream(0, "a", 4096, 32, buffer=64)
    seen = np.concatenate([stream.rows(k * 32, 32)[0] for k in range(4096 // 32)])
    assert sorted(seen.tolist()) == list(range(4096))


@pytest.mark.parametrize(("world", "workers"), [(2, 1), (1, 2), (2, 2), (4, 4)])
def test_processes_and_workers_read_blocks_of_their_own(world: int, workers: int) -> None:
    stream, count = LaneStream(0, "a", 4096, 32, buffer=64), 32
    readers: dict[int, set[tuple[int, int]]] = {}
    for step in range(4096 // count):
        rows_of_step = stream.rows(step * count, count)[0]
        for rank in range(world):
            for row in rows_of_step[rank::world]:
                readers.setdefault(int(row) // stream.block, set()).add((rank, step % workers))
    assert {len(own) for own in readers.values()} == {1}
