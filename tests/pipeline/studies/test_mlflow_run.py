"""A study in MLflow, whatever its server does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.studies import mlflow_run as record
from pipeline.study import main
from pipeline.tracking.journals import OperationJournal
from pipeline.tracking.sender import PARENT_TAG
from tests.pipeline.studies.plans import LAUNCHER
from tests.pipeline.studies.text_shop import SMALL, write_shop


@pytest.mark.parametrize(
    ("uri", "parent", "top_level"),
    [("sqlite:///x.db", None, True), ("sqlite:///x.db", "abc", False), (None, None, False)],
)
def test_which_trials_are_top_level(
    uri: str | None, parent: str | None, top_level: bool, tmp_path: Path
) -> None:
    journal = OperationJournal(tmp_path / "operations.jsonl")
    journal.start("one", {"uri": uri, "experiment": "exp"})
    journal.tags({"a": 1} if parent is None else {PARENT_TAG: parent})
    journal.close()
    assert record.is_top_level(tmp_path / "operations.jsonl") is top_level
    assert not record.is_top_level(tmp_path / "absent.jsonl")


def test_a_run_of_which_the_server_lacks_a_part_is_behind(tmp_path: Path) -> None:
    journal = OperationJournal(tmp_path / "operations.jsonl")
    journal.start("one", {"uri": "sqlite:///x.db", "experiment": "exp"})
    journal.close()
    assert record.is_behind(tmp_path)
    size = (tmp_path / "operations.jsonl").stat().st_size
    (tmp_path / "tracking.json").write_text(json.dumps({"offsets": {"operations.jsonl": size}}))
    assert not record.is_behind(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    assert record.is_behind(tmp_path)
    assert not record.is_behind(tmp_path / "absent")


def test_a_dead_server_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(record, "PATIENCE", 0.2)
    monkeypatch.setenv("STAND_IN_PAUSE", "0")
    tracking = ["tracking=mlflow", "tracking.uri=http://127.0.0.1:9"]
    given = [*SMALL, *tracking, "seeds=[0]", f"launcher={LAUNCHER}", "jobs=3", "run_dir=one"]
    assert main(given) == 0
    assert "report one/report.html" in capsys.readouterr().out
