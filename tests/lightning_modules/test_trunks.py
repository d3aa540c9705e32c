"""How tasks share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_modules.features import Features
from lightning_modules.trunks.base import Trunk, route
from tests.rows import DIM, Row, ids, rows

each = pytest.mark.parametrize("row", rows("trunk"), ids=ids)
ROUTES = {"both": ("one", "other"), "single": ("other",)}


def built(row: Row) -> Trunk:
    """The trunk as shipped, in evaluation."""
    torch.manual_seed(0)
    trunk: Trunk = Row(row.group, row.option, None, None).build()
    return trunk.eval()


def features(**sizes: int) -> dict[str, Features]:
    """Random rows: the first of a data set are the same however many follow."""
    return {
        name: Features(torch.randn(50, DIM, generator=torch.Generator().manual_seed(len(name)))[:n])
        for name, n in sizes.items()
    }


@each
def test_row(row: Row) -> None:
    given = {"one": Features(torch.tensor(row.given))}
    (found,) = row.build().eval()(given, {"task": ("one",)})["task"]
    assert torch.allclose(found, torch.tensor(row.expected), atol=1e-4)


@each
def test_rows_are_independent(row: Row) -> None:
    trunk = built(row)
    few, many = (trunk(features(one=3, other=n), ROUTES)["both"] for n in (2, 40))
    assert torch.allclose(few[0], many[0], atol=1e-6)
    assert torch.allclose(few[1], many[1][:2], atol=1e-6)


@each
def test_a_task_of_two_data_sets_gets_both(row: Row) -> None:
    found = built(row)(features(one=3, other=2), ROUTES)
    shapes = {task: [tuple(rows.shape) for rows in parts] for task, parts in found.items()}
    assert shapes == {"both": [(3, DIM), (2, DIM)], "single": [(2, DIM)]}


@each
def test_data_sets_that_a_step_lacks_are_left_out(row: Row) -> None:
    trunk = built(row)
    found = trunk(features(one=3), ROUTES)
    assert {task: [len(rows) for rows in parts] for task, parts in found.items()} == {"both": [3]}


@each
def test_shared_parameters_get_gradients_of_every_task(row: Row) -> None:
    trunk = built(row)
    shared = list(trunk.shared_parameters())
    assert shared
    for task in ROUTES:
        trunk.zero_grad()
        parts = trunk(features(one=3, other=2), ROUTES)[task]
        torch.cat(parts).square().sum().backward()
        assert all(parameter.grad is not None for parameter in shared)


def test_route_keeps_the_order_of_the_task() -> None:
    rows: dict[str, Tensor] = {"one": torch.zeros(2, 1), "other": torch.ones(1, 1)}
    routes = {"forth": ("one", "other"), "back": ("other", "one"), "none": ("third",)}
    found = route(rows, routes)
    assert found.keys() == {"forth", "back"}
    assert found["forth"][0] is found["back"][1] is rows["one"]
    assert found["forth"][1] is found["back"][0] is rows["other"]
