"""How much each task takes of what is shared."""

from __future__ import annotations

import pytest
import torch

from lightning_modules.trunks.load import Load

WEIGHTS = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.7, 0.2], [0.6, 0.2, 0.2], [0.4, 0.4, 0.2]])
SOURCES = ("x", "y", "z")


def test_means_and_largest() -> None:
    load = Load()
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
    load, other = Load(), Load()
    other.note("a", SOURCES, WEIGHTS[1:])
    _, more = other._noted["a"]
    monkeypatch.setattr("lightning_modules.trunks.load.summed", lambda own: own + more)
    load.note("a", SOURCES, WEIGHTS[:1])
    found = load.read(["a"])
    assert [found[f"gate/a/{s}"] for s in SOURCES] == pytest.approx([0.4, 0.4, 0.2])


def test_a_task_without_rows_has_no_gauges() -> None:
    load = Load()
    load.note("a", SOURCES, WEIGHTS[:0])
    load.note("b", SOURCES, WEIGHTS)
    assert load.read(["a"]) == {}
    assert load.read(["a", "b"]).keys() == load.read(["b"]).keys()


def test_a_new_step_replaces_the_last_one() -> None:
    load = Load()
    load.note("a", SOURCES, WEIGHTS)
    load.note("a", SOURCES, WEIGHTS[1:2])
    assert load.read(["a"])["gate/a/y"] == pytest.approx(0.7)
