"""How much each task takes of what is shared."""

from __future__ import annotations

import pytest
import torch

from datamodules.features import Features
from lightning_modules.trunks.gauges import AttentionStats, GateStats
from lightning_modules.trunks.task_queries import TaskQueries
from tests.rows.row import DIM

WEIGHTS = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.7, 0.2], [0.6, 0.2, 0.2], [0.4, 0.4, 0.2]])
SOURCES = ("x", "y", "z")


def test_means_and_largest() -> None:
    load = GateStats()
    load.note("a", SOURCES, WEIGHTS)
    assert load.read(["a"]) == pytest.approx(
        {
            "gate/a/x": 0.4,
            "gate/a/y": 0.4,
            "gate/a/z": 0.2,
            "load/a/x": 0.75,
            "load/a/y": 0.25,
            "load/a/z": 0.0,
        }
    )


def test_rows_of_all_processes_count_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    load, other = GateStats(), GateStats()
    other.note("a", SOURCES, WEIGHTS[1:])
    _, more = other._noted["a"]
    monkeypatch.setattr("lightning_modules.trunks.gauges.all_reduce_sum", lambda own: own + more)
    load.note("a", SOURCES, WEIGHTS[:1])
    found = load.read(["a"])
    assert [found[f"gate/a/{s}"] for s in SOURCES] == pytest.approx([0.4, 0.4, 0.2])


def test_a_task_without_rows_has_no_gauges() -> None:
    load = GateStats()
    load.note("a", SOURCES, WEIGHTS[:0])
    load.note("b", SOURCES, WEIGHTS)
    assert load.read(["a"]) == {}
    assert load.read(["a", "b"]).keys() == load.read(["b"]).keys()


def test_a_new_step_replaces_the_last_one() -> None:
    load = GateStats()
    load.note("a", SOURCES, WEIGHTS)
    load.note("a", SOURCES, WEIGHTS[1:2])
    assert load.read(["a"])["gate/a/y"] == pytest.approx(0.7)


def test_by_hand() -> None:
    looks = AttentionStats()
    one = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    other = torch.tensor([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
    looks.note({"rows": {"a": one, "b": other}})
    found = looks.read(["a"])
    assert found == pytest.approx(
        {
            "gate/a/pooled": 0.75,
            "gate/a/tokens": 0.25,
            "attention/a/a": 1.0,
            "attention/a/b": 0.25,
        }
    )
    with torch.no_grad():
        looks.note({"rows": {"a": other}})
    assert looks.read(["a"]) == found
    assert looks.read(["c"]) == {}


def test_task_queries_tell() -> None:
    trunk = TaskQueries(["a", "b"], DIM)
    rows = Features(torch.randn(4, DIM), torch.randn(4, 3, DIM))
    trunk({"rows": rows}, {"a": ["rows"], "b": ["rows"]})
    found = trunk.gauges(["a", "b"])
    assert found["gate/a/pooled"] + found["gate/a/tokens"] == pytest.approx(1.0)
    assert found["attention/a/b"] == pytest.approx(found["attention/b/a"])
    assert 0 < found["attention/a/b"] < 1
