from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.tracking.lines import read_lines
from pipeline.tracking.operations import OperationJournal


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
