"""Where tasks look, and how alike."""

from __future__ import annotations

import pytest
import torch

from lightning_modules.features import Features
from lightning_modules.trunks.looks import Looks
from lightning_modules.trunks.task_queries import TaskQueries
from tests.rows.row import DIM


def test_by_hand() -> None:
    looks = Looks()
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
