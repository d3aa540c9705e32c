"""Who decays, and whose learning rate differs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

from lightning_modules.balancers.uncertainty import Uncertainty
from lightning_modules.optimization import parameter_groups
from pollinate.errors import UsageError
from tests.rows.groups import rows
from tests.rows.row import Row, ids
from tests.tiny import network, ready

PARTS = {"encoders.text": 0.1, "heads": 2.0, "heads.notes": 3.0, "balancer": 5.0}


def roots() -> dict[str, nn.Module]:
    return {"": network(ready()), "balancer": Uncertainty(["notes", "shapes"])}


def names(modules: dict[str, nn.Module]) -> dict[int, str]:
    """{id of a parameter: its name}."""
    return {
        id(parameter): f"{root}.{name}".lstrip(".")
        for root, module in modules.items()
        for name, parameter in module.named_parameters()
    }


def rates(modules: dict[str, nn.Module], groups: list[dict[str, Any]], key: str) -> dict[str, Any]:
    """{name of a parameter: its group's value}."""
    named = names(modules)
    return {named[id(p)]: group.get(key) for group in groups for p in group["params"]}


@pytest.mark.parametrize("row", rows("optimizer"), ids=ids)
def test_row(row: Row) -> None:
    options = {k: v for k, v in row.node().items() if k not in ("_target_", "lr_scale")}
    weight = nn.Parameter(torch.ones((), dtype=torch.float64))
    optimizer = row.kind()([weight], **options)
    found = []
    for gradient in row.given:
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
        found.append(weight.item())
    assert found == pytest.approx(row.expected, rel=1e-6)


@pytest.mark.parametrize("scale", [{}, {"trunk": 2.0}, PARTS])
@pytest.mark.parametrize("decay", [True, False])
def test_every_parameter_is_in_one_group(scale: dict[str, float], decay: bool) -> None:
    modules = roots()
    groups = parameter_groups(modules, 0.1, scale, decay)
    found = Counter(id(parameter) for group in groups for parameter in group["params"])
    assert found == Counter(names(modules).keys())


def test_norms_biases_and_log_variances_do_not_decay() -> None:
    modules = roots()
    groups = parameter_groups(modules, 0.1, {}, decay=True)
    spared = {name for name, v in rates(modules, groups, "weight_decay").items() if v == 0.0}
    expected = {
        name
        for name in names(modules).values()
        if name.endswith("bias") or "norm" in name or "log_variance" in name
    } | {
        "trunk.blocks.0.layers.0.weight",  # a norm
        "encoders.image.layers.2.weight",  # a norm
    }
    assert spared == expected


def test_without_decay_nothing_is_said_of_it() -> None:
    assert all("weight_decay" not in g for g in parameter_groups(roots(), 0.1, {}, decay=False))


def test_the_longest_prefix_decides() -> None:
    modules = roots()
    found = rates(modules, parameter_groups(modules, 0.1, PARTS, decay=True), "lr")
    assert found["encoders.text.embedding.weight"] == pytest.approx(0.01)
    assert found["encoders.image.layers.1.weight"] == pytest.approx(0.1)
    assert found["heads.shapes.weight"] == pytest.approx(0.2)
    assert found["heads.notes.weight"] == found["heads.notes.bias"] == pytest.approx(0.3)
    assert found["balancer.log_variance.notes"] == pytest.approx(0.5)


def test_a_prefix_ends_at_a_dot() -> None:
    with pytest.raises(UsageError, match=r"lr_scale names encoders\.tex, which no parameter"):
        parameter_groups(roots(), 0.1, {"encoders.tex": 2.0}, decay=True)


def test_unmatched_parts_are_named_with_those_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        parameter_groups(roots(), 0.1, {"head": 2.0, "trunk": 1.0}, decay=True)
    assert "names head, which" in str(caught.value)
    assert "heads.notes, heads.shapes" in str(caught.value)


def test_frozen_parameters_are_left_out() -> None:
    modules = roots()
    modules[""].get_submodule("trunk").requires_grad_(False)
    found = rates(modules, parameter_groups(modules, 0.1, {}, decay=True), "lr")
    assert found
    assert not any(name.startswith("trunk") for name in found)


def test_a_shared_parameter_is_there_once() -> None:
    layer = nn.Linear(2, 2)
    groups = parameter_groups({"": nn.ModuleList([layer, layer])}, 0.1, {}, decay=True)
    assert sum(len(group["params"]) for group in groups) == 2


def test_zero_scale_is_a_scale() -> None:
    modules = roots()
    found = rates(modules, parameter_groups(modules, 0.1, {"trunk": 0.0}, True), "lr")
    assert found["trunk.norm.weight"] == 0.0
