"""How tasks share: what holds for every trunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datamodules.features import Features
from lightning_modules.trunks.base import Parts, Routes, Trunk, route
from lightning_modules.trunks.shared import SharedTrunk
from tests.rows.groups import rows
from tests.rows.row import DIM, Row, ids

each = pytest.mark.parametrize("row", rows("trunk"), ids=ids)
ROUTES: Routes = {"both": ("one", "other"), "single": ("other",), "alone": ("third",)}
TASKS = tuple(ROUTES)


def built(row: Row, tasks: Sequence[str] = TASKS) -> Trunk:
    """The trunk as shipped, in evaluation."""
    torch.manual_seed(0)
    trunk: Trunk = Row(row.group, row.option, None, None).build(tasks=tasks)
    return trunk.eval()


def features(**sizes: int) -> dict[str, Features]:
    """Random rows of a vector, a sequence or a grid: the first are the same however many follow."""
    found = {}
    for name, n in sizes.items():
        draws = torch.Generator().manual_seed(len(name))
        pooled = torch.randn(50, DIM, generator=draws)[:n]
        cells = torch.randn(50, DIM, 2, 3, generator=draws)[:n]
        mask = torch.arange(6) < 1 + torch.arange(50)[:n, None] % 6
        found[name] = {
            "one": Features(pooled, cells.flatten(2).mT, mask=mask),
            "other": Features(pooled, grid=cells),
        }.get(name, Features(pooled))
    return found


def shapes(parts: Parts) -> dict[str, list[tuple[int, ...]]]:
    return {task: [tuple(rows.shape) for rows in own] for task, own in parts.items()}


def total(parts: Parts, task: str) -> Tensor:
    return torch.cat(parts[task]).square().sum()


def reached(trunk: Trunk, loss: Tensor) -> set[str]:
    """The names of the parameters that a loss has a gradient for."""
    names, parameters = zip(*trunk.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return {name for name, gradient in zip(names, found, strict=True) if gradient is not None}


def shared_names(trunk: Trunk) -> set[str]:
    shared = {id(parameter) for parameter in trunk.shared_parameters()}
    return {name for name, parameter in trunk.named_parameters() if id(parameter) in shared}


@each
def test_row(row: Row) -> None:
    given = {"one": Features(torch.tensor(row.given))}
    trunk = row.build(tasks=["task", "another"]).eval()
    for module in trunk.modules():
        if isinstance(module, nn.Linear):
            for parameter in module.parameters():
                nn.init.zeros_(parameter)
    (found,) = trunk(given, {"task": ("one",)})["task"]
    assert torch.allclose(found, torch.tensor(row.expected), atol=1e-4)


def test_without_blocks_heads_read_the_features() -> None:
    trunk, given = SharedTrunk(["task"], 4, depth=0), {"one": Features(torch.randn(3, 4))}
    assert torch.equal(trunk(given, {"task": ("one",)})["task"][0], given["one"].pooled)
    assert not list(trunk.parameters())


@each
def test_rows_are_independent(row: Row) -> None:
    trunk = built(row)
    few, many = (trunk(features(one=3, other=n), ROUTES)["both"] for n in (2, 40))
    assert torch.allclose(few[0], many[0], atol=1e-5)
    assert torch.allclose(few[1], many[1][:2], atol=1e-5)


@each
def test_a_task_of_two_data_sets_gets_both(row: Row) -> None:
    found = built(row)(features(one=3, other=2, third=1), ROUTES)
    assert shapes(found) == {
        "both": [(3, DIM), (2, DIM)],
        "single": [(2, DIM)],
        "alone": [(1, DIM)],
    }


@each
def test_parts_follow_the_task_s_own_order(row: Row) -> None:
    trunk, given = built(row), features(one=3, other=2)
    forth = trunk(given, {"both": ("one", "other")})["both"]
    back = trunk(given, {"both": ("other", "one")})["both"]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(forth, back[::-1], strict=True))


@each
def test_data_sets_that_a_step_lacks_are_left_out(row: Row) -> None:
    assert shapes(built(row)(features(one=3), ROUTES)) == {"both": [(3, DIM)]}


@each
def test_one_data_set_may_have_no_rows(row: Row) -> None:
    trunk = built(row).train()
    found = trunk(features(one=0, other=2, third=0), ROUTES)
    assert shapes(found) == {
        "both": [(0, DIM), (2, DIM)],
        "single": [(2, DIM)],
        "alone": [(0, DIM)],
    }
    loss = torch.stack([total(found, task) for task in ROUTES]).sum()
    rest = trunk.penalty(TASKS)
    (loss if rest is None else loss + rest).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trunk.parameters())
    assert all(value == value for value in trunk.gauges(TASKS).values())


@each
def test_tasks_that_share_features_get_one_tensor(row: Row) -> None:
    trunk = built(row)
    found = trunk(features(other=2), ROUTES)
    assert (found["both"][0] is found["single"][0]) == trunk.same_for_all


@each
@pytest.mark.parametrize("tasks", [TASKS, TASKS[:2]])
def test_shared_parameters_are_those_that_several_tasks_reach(
    row: Row, tasks: Sequence[str]
) -> None:
    trunk = built(row, tasks).train()
    found = trunk(features(one=3, other=2, third=2), {task: ROUTES[task] for task in tasks})
    names = [reached(trunk, total(found, task)) for task in tasks]
    several = {name for own in names for name in own if sum(name in other for other in names) > 1}
    assert shared_names(trunk) == several
    assert set().union(*names) == {name for name, _ in trunk.named_parameters()}


@each
def test_an_absent_task_gets_no_gradient(row: Row) -> None:
    trunk = built(row).train()
    given = features(one=3, other=2, third=2)
    private = {
        task: reached(trunk, total(trunk(given, ROUTES), task)) - shared_names(trunk)
        for task in TASKS
    }
    trunk.penalty(TASKS)
    loss = total(trunk(given, {"both": ROUTES["both"]}), "both")
    rest = trunk.penalty(["both"])
    (loss if rest is None else loss + rest).backward()
    for name, parameter in trunk.named_parameters():
        if any(name in private[task] for task in ("single", "alone")):
            assert parameter.grad is None, name


@each
def test_the_order_of_tasks_does_not_matter(row: Row) -> None:
    given = features(one=3, other=2, third=2)
    trunks = [built(row, tasks) for tasks in (TASKS, TASKS[::-1])]
    first, second = (trunk(given, ROUTES) for trunk in trunks)
    assert trunks[0].state_dict().keys() == trunks[1].state_dict().keys()
    for task in TASKS:
        assert torch.equal(torch.cat(first[task]), torch.cat(second[task]))


@each
def test_wanting_fewer_tasks_changes_nothing(row: Row) -> None:
    trunk, given = built(row), features(one=3, other=2, third=2)
    every = trunk(given, ROUTES)
    alone = trunk(given, {"single": ROUTES["single"]})
    assert alone.keys() == {"single"}
    assert torch.allclose(every["single"][0], alone["single"][0], atol=1e-6)


@each
def test_state_dict_round_trip(row: Row) -> None:
    trunk, other = built(row), built(row)
    with torch.no_grad():
        for parameter in trunk.parameters():
            parameter.normal_()
    other.load_state_dict(trunk.state_dict())
    given = features(one=3, other=2, third=2)
    pairs = zip(trunk(given, ROUTES).values(), other(given, ROUTES).values(), strict=True)
    assert all(torch.equal(torch.cat(one), torch.cat(two)) for one, two in pairs)


@each
def test_a_single_task_will_do(row: Row) -> None:
    trunk = built(row, ["both"]).train()
    found = trunk(features(one=3), {"both": ROUTES["both"]})
    rest = trunk.penalty(["both"])
    (total(found, "both") if rest is None else total(found, "both") + rest).backward()
    assert shapes(found) == {"both": [(3, DIM)]}
    assert all(p.grad is not None for p in trunk.parameters())


@each
def test_without_tasks_there_is_no_penalty(row: Row) -> None:
    assert built(row).penalty([]) is None


@each
def test_gauges_are_of_the_tasks_asked_for(row: Row) -> None:
    trunk = built(row).train()
    trunk(features(one=3, other=2, third=2), ROUTES)
    before = trunk.gauges(TASKS)
    with torch.no_grad():
        trunk(features(one=40, other=9, third=9), ROUTES)
    assert trunk.gauges(TASKS) == before  # a look without gradients is no training step
    names = {task: list(trunk.gauges([task])) for task in TASKS}
    assert {n for own in names.values() for n in own} == before.keys()
    for task, own in names.items():
        assert all(name.split("/")[0] in ("attention", "gate", "load") for name in own)
        assert all(name.split("/")[1] == task and name.count("/") == 2 for name in own)


@each
def test_tasks_in_graphs_of_their_own_get_the_same(row: Row) -> None:
    trunk = built(row)
    whole, given = {}, features(one=3, other=2, third=2)
    together: Any = trunk(given, ROUTES)
    for names in (("one", "other"), ("third",)):
        whole |= trunk({name: given[name] for name in names}, ROUTES)
    for task in TASKS:
        assert torch.allclose(torch.cat(whole[task]), torch.cat(together[task]), atol=1e-6)


def test_route_keeps_the_order_of_the_task() -> None:
    rows: dict[str, Tensor] = {"one": torch.zeros(2, 1), "other": torch.ones(1, 1)}
    routes = {"forth": ("one", "other"), "back": ("other", "one"), "none": ("third",)}
    found = route(rows, routes)
    assert found.keys() == {"forth", "back"}
    assert found["forth"][0] is found["back"][1] is rows["one"]
    assert found["forth"][1] is found["back"][0] is rows["other"]
