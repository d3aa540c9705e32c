"""Measured gains from a table and from runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from pipeline.ranking.candidates import CheckpointSource
from pipeline.ranking.measured_gains import gains_of_runs, gains_table
from pollinate.errors import PollinateError
from tests.pipeline.ranking.conftest import Shop

TASKS, SOURCES = ["kind", "price"], ["a", "b"]


def table(folder: Path, *lines: str) -> Path:
    path = folder / "gains.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_table_is_averaged_over_its_seeds(tmp_path: Path) -> None:
    lines = (
        "source,task,gain,seed",
        "a,kind,0.1,0",
        "a,kind,0.3,1",
        "b,kind,-1e-2,0",
        "c,kind,1,0",
    )
    found = gains_table(table(tmp_path, *lines), TASKS, SOURCES)
    assert found.values == {"kind": {"a": pytest.approx(0.2), "b": -0.01}, "price": {}}
    (note,) = found.notes
    assert "gains of c, which are not ranked" in note


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("source,task,gian", "a,kind,1"), "has no column 'gain'; did you mean gian"),
        (("source,task,gain", "a,kin,1"), "line 2: no task 'kin'; did you mean kind"),
        (("source,task,gain", "a,kind,lots"), "line 2: gain must be a number, got 'lots'"),
        (("source,task,gain", "a,kind,nan"), "gain must be a number, got 'nan'"),
        (("source,task,gain", "a,kind"), "gain must be a number, got None"),
        (("source,task,gain", "aa,kind,1"), "names none of the sources; did you mean a"),
        (("source,task,gain",), "has no rows"),
    ],
)
def test_tables_of_no_use(lines: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(PollinateError, match=message):
        gains_table(table(tmp_path, *lines), TASKS, SOURCES)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PollinateError, match="there is no file"):
        gains_table(tmp_path / "absent.csv", TASKS, SOURCES)


def a_run(folder: Path, score: float, transfer: dict[str, Any]) -> str:
    folder.mkdir()
    config = {"transfer": transfer, "encoder": {"text": {"_target_": "x"}}}
    OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
    summary = {"test": {"kind": {"accuracy": score, "f1": 0.0}}}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return str(folder)


def test_runs_with_and_without_a_source(trained: Shop, tmp_path: Path) -> None:
    source = CheckpointSource("a", trained.run / "checkpoints" / "best.ckpt")
    named = {"_target_": "lightning_modules.transfer.x.X", "checkpoint": str(trained.run)}
    runs = [
        a_run(tmp_path / "scratch0", 0.5, {"_target_": "none"}),
        a_run(tmp_path / "scratch1", 0.7, {"_target_": "none"}),
        a_run(tmp_path / "with0", 0.8, named),
        a_run(tmp_path / "with1", 0.9, named),
    ]
    tasks = {"kind": "accuracy", "price": "r2"}
    found = gains_of_runs(runs, tasks, [source], "sqlite:///absent.db")
    assert found.values == {"kind": {"a": pytest.approx(0.25)}, "price": {}}
    for some, lacking in ((runs[:2], "with one of the sources"), (runs[2:], "without any source")):
        with pytest.raises(PollinateError, match=f"there is none {lacking}"):
            gains_of_runs(some, tasks, [source], "sqlite:///absent.db")
    with pytest.raises(PollinateError, match="must name folders of finished runs"):
        gains_of_runs([str(tmp_path)], tasks, [source], "sqlite:///absent.db")
