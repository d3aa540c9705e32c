from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.tracking.journals import (
    JsonLinesFile,
    MetricJournal,
    OperationJournal,
    read_lines,
    read_points,
)


def log_steps(path: Path, first: int, last: int) -> None:
    journal = MetricJournal(path)
    for step in range(first, last):
        journal.log({"train/digit/loss": 1 / (step + 1), "rate": 0.1}, step)
        if step % 5 == 4:
            journal.log({"valid/digit/score": step / 100}, step)
    journal.close()


def history(path: Path) -> list[tuple[str, int, float]]:
    return [(point.key, point.step, point.value) for point in read_points(path)]


@pytest.mark.parametrize("killed_at", [0, 1, 7, 10, 14, 20])
def test_killed_and_resumed_history_equals_uninterrupted(tmp_path: Path, killed_at: int) -> None:
    log_steps(tmp_path / "whole", 0, 20)
    log_steps(tmp_path / "parts", 0, killed_at)
    log_steps(tmp_path / "parts", max(0, killed_at - 6), 20)  # from an earlier checkpoint
    assert history(tmp_path / "parts") == history(tmp_path / "whole")


@pytest.mark.parametrize("cut", [1, 10, 40, 63])
def test_torn_last_line_is_removed_and_logged_again(tmp_path: Path, cut: int) -> None:
    log_steps(tmp_path / "whole", 0, 20)
    log_steps(tmp_path / "parts", 0, 13)
    torn = (tmp_path / "parts").read_bytes()[:-cut]
    (tmp_path / "parts").write_bytes(torn)
    log_steps(tmp_path / "parts", 10, 20)
    assert history(tmp_path / "parts") == history(tmp_path / "whole")


def test_same_key_and_step_is_written_once(tmp_path: Path) -> None:
    journal = MetricJournal(tmp_path / "m")
    journal.log({"a": 1.0}, 3)
    journal.log({"a": 2.0, "b": 5.0}, 3)
    journal.log({"a": 0.5}, 1)  # an earlier step that is new
    journal.log({"a": 0.5}, 1)
    assert history(tmp_path / "m") == [("a", 3, 1.0), ("b", 3, 5.0), ("a", 1, 0.5)]
    assert journal.point_count == 3
    assert journal.last_step == 3


def test_non_finite_values_are_strict_json(tmp_path: Path) -> None:
    journal = MetricJournal(tmp_path / "m")
    journal.log({"a": float("inf"), "b": float("-inf"), "c": float("nan")}, 0)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    line = json.loads((tmp_path / "m").read_text(), parse_constant=refuse)
    assert line["metrics"] == {"a": "inf", "b": "-inf", "c": "nan"}
    values = [point.value for point in read_points(tmp_path / "m")]
    assert values[:2] == [math.inf, -math.inf]
    assert math.isnan(values[2])


def test_points_reach_the_system_without_flush(tmp_path: Path) -> None:
    journal = MetricJournal(tmp_path / "m")
    journal.log({"a": 1.0}, 0)
    assert history(tmp_path / "m") == [("a", 0, 1.0)]  # journal is still open


def test_reader_leaves_a_torn_line_and_goes_on_behind_the_offset(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b'{"a":1}\nrest of a failed write\n{"b":2}\n{"c":')
    found = list(read_lines(path))
    assert [record for record, _ in found] == [{"a": 1}, {"b": 2}]
    path.write_bytes(path.read_bytes() + b"3}\n")
    assert [record for record, _ in read_lines(path, found[-1][1])] == [{"c": 3}]


def test_long_torn_line_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b'{"a":1}\n' + b"x" * 200_000)
    JsonLinesFile(path).close()
    assert path.read_bytes() == b'{"a":1}\n'


def test_full_disk_warns_once_and_leaves_no_torn_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = os.write
    file = JsonLinesFile(tmp_path / "lines")
    file.append({"a": 1})
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    file.append({"a": 2})
    file.append({"a": 3})
    monkeypatch.setattr(os, "write", write)
    file.append({"a": 4})
    assert [record for record, _ in read_lines(tmp_path / "lines")] == [{"a": 1}, {"a": 4}]
    assert len(caplog.records) == 1


def read(path: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in r.items() if k != "time_ms"} for r, _ in read_lines(path)]


def test_params_are_flat_text_without_secrets(tmp_path: Path) -> None:
    journal = OperationJournal(tmp_path / "o")
    journal.params({"a": {"lr": 0.1, "token": "x"}, "seed": None, "on": True, "sizes": [1, 2]})
    assert read(tmp_path / "o") == [
        {
            "op": "params",
            "params": {
                "a.lr": "0.1",
                "a.token": "***",
                "seed": "null",
                "on": "true",
                "sizes": "[1, 2]",
            },
        }
    ]
    assert "x" not in {*read(tmp_path / "o")[0]["params"].values()}


def test_resume_repeats_nothing_and_notes_changes(tmp_path: Path) -> None:
    data = {"name": "d", "digest": "1", "source": "x.csv", "rows": {"train": 3}}
    keys = []
    for steps in (100, 100, 200):
        journal = OperationJournal(tmp_path / "o")
        journal.start("run", {"uri": None, "experiment": "e"})
        journal.params({"max_steps": steps, "lr": 0.1})
        journal.tags({"host": "h"})
        journal.add_once("dataset", **data)
        keys.append((journal.key, journal.start_ms))
        journal.close()
    assert [record["op"] for record in read(tmp_path / "o")] == [
        "start", "params", "tags", "dataset", "start", "start", "tags",
    ]  # fmt: skip
    assert read(tmp_path / "o")[-1]["tags"] == {"resumed.max_steps": "200"}
    assert keys[0][0] == keys[2][0]
    assert keys[1] == keys[2]
