"""Each method on models of some numbers."""

from __future__ import annotations

import pytest
import torch

from lightning_modules.merging.base import Merging
from tests.merging import W, models, result, state
from tests.rows.groups import rows
from tests.rows.row import Row, ids

each = pytest.mark.parametrize("row", rows("method"), ids=ids)
# of models 0 and 1: (inputs, targets)
DATA = {
    "t0": (torch.ones(1, 1), torch.zeros(1)),
    "t1": (torch.ones(1, 1), torch.ones(1)),
}


@each
def test_row(row: Row) -> None:
    given, start = row.given
    merged = models([state(one) for one in given], None if start is None else state(start))
    data = DATA if len(given) == 2 and len(state(given[0])[W]) == 1 else None
    found = result(row.build(), merged, data)
    expected = state(row.expected)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6)


SAME = {"task_arithmetic": {"scale": 1.0}, "dare": {"scale": 1.0, "drop": 0.0}}
SAME |= {"ties": {"scale": 1.0, "keep": 1.0}, "slerp": {}}


@pytest.mark.parametrize("row", [r for r in rows("method") if r.option != "ensemble"], ids=ids)
def test_one_model_with_weight_1_is_the_identity(row: Row) -> None:
    own = {W: torch.randn(1, 4), "n": torch.tensor(7), "heads.a.weight": torch.randn(3, 2)}
    method: Merging = Row(row.group, row.option, None, None, SAME.get(row.option, {})).build()
    start = {W: torch.randn(1, 4)} if method.needs_base else None
    count = 2 if row.option == "slerp" else 1  # a model with itself
    merged = models([own] * count, start, buffers=["n"])
    if row.option == "adamerging":
        method = Row(row.group, row.option, None, None, {"start": 1.0, "steps": 1}).build()
        method.lr = 0.0  # type: ignore[attr-defined]
        own = {**own, W: torch.randn(2, 4)}
        merged = models([own], {W: torch.zeros(2, 4)}, buffers=["n"])
    found = result(method, merged)
    assert found.keys() == own.keys()
    for name, tensor in own.items():
        assert torch.equal(found[name], tensor), name


ORDERLESS = ("average", "uniform_soup", "greedy_soup", "slerp", "task_arithmetic", "ties")
ORDERLESS += ("fisher", "regmean")


@pytest.mark.parametrize("option", ORDERLESS)
def test_the_order_of_models_changes_nothing(option: str) -> None:
    method = Row("method", option, None, None, {}).build()
    draws = torch.Generator().manual_seed(0)
    states = [{W: torch.randn(1, 6, generator=draws)} for _ in range(3)]
    states = states[:2] if option == "slerp" else states
    start = {W: torch.randn(1, 6, generator=draws)} if method.needs_base else None
    rows_of = {
        f"t{i}": (torch.randn(9, 6, generator=draws), torch.randn(9, generator=draws))
        for i in range(3)
    }
    found = result(method, models(states, start), rows_of)
    tasks = [[f"t{i}"] for i in reversed(range(len(states)))]
    turned = result(method, models(states[::-1], start, tasks), rows_of)
    torch.testing.assert_close(found[W], turned[W], rtol=1e-5, atol=1e-6)
