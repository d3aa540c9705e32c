"""Equal tasks without conflict: which methods give the plain sum, and what the others give."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.balancers.shared_gradients import ParameterGradients
from tests.lightning_modules.balancers.build import build
from tests.rows.balancers import BALANCERS
from tests.rows.row import Row, ids

TASKS = ("a", "b", "c", "d")
LOSS = 0.7
LENGTH = 3.0
DOCS = Path(__file__).parents[3] / "docs" / "explanation" / "balancing.md"


def chosen(weights: Tensor) -> bool:
    """Two of four tasks, twice each."""
    return sorted(weights.tolist()) == pytest.approx([0, 0, 2, 2])


def at_random(weights: Tensor) -> bool:
    return weights.sum().item() == pytest.approx(4) and bool(weights.std() > 0.1)


def led(weights: Tensor) -> bool:
    """As long as one gradient, which is most of it."""
    return weights.norm().item() == pytest.approx(1) and bool(weights[0] > 0.99)


def by_element(weights: Tensor) -> bool:
    return bool(weights.std() > 0.01)


def of_logs(weights: Tensor) -> bool:
    return weights.tolist() == pytest.approx([1 / LOSS] * 4)


OTHERS: dict[str, Callable[[Tensor], bool]] = {
    "db_mtl": of_logs,
    "graddrop": by_element,
    "krum": chosen,
    "log_loss": of_logs,
    "pcd": led,
    "random": at_random,
    "random_gradient": at_random,
    "trimmed_mean": by_element,
}


def shared_weights(option: str) -> Tensor:
    """What the first step of a shipped method multiplies four orthogonal gradients by."""
    draws = torch.Generator().manual_seed(0)
    unit = torch.linalg.qr(torch.randn(30, 4, generator=draws, dtype=torch.float64))[0].T
    point = nn.Parameter(torch.zeros(30, dtype=torch.float64))
    losses = {t: LOSS + LENGTH * row @ point for t, row in zip(TASKS, unit, strict=True)}
    balancer = build(Row("balancer", option, None, None), TASKS)
    balancer.begin_epoch(0)
    balancer.backward(losses, ParameterGradients([point]))
    assert point.grad is not None
    return unit @ point.grad / LENGTH


@pytest.mark.parametrize("row", BALANCERS, ids=ids)
def test_first_step_of_equal_tasks_without_conflict(row: Row) -> None:
    weights = shared_weights(row.option)
    if row.option in OTHERS:
        assert OTHERS[row.option](weights)
        assert not torch.allclose(weights, torch.ones_like(weights), atol=0.05)
    else:
        assert torch.allclose(weights, torch.ones_like(weights), atol=1e-6)


def test_the_docs_name_the_others() -> None:
    section = DOCS.read_text(encoding="utf-8").split("\n## ")[1]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(OTHERS)
