"""What tasks share is found in a loop that doesn't name it."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.balancers.gradient.found import FoundParameters
from lightning_modules.balancers.gradient.parameters import SharedParameters
from lightning_modules.balancers.jacobian.moco import MoCo
from pipeline.errors import UsageError


class Two(nn.Module):
    """Two shared layers of one size, which the heads come to in different order."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.heads = nn.ModuleDict({"a": nn.Linear(4, 1), "b": nn.Linear(4, 1)})

    def losses(self, tasks: str) -> dict[str, Tensor]:
        rows = torch.ones(3, 4)
        left, right = self.left(rows), self.right(rows)
        mixed = {"a": left * right, "b": right * left}
        return {task: (self.heads[task](mixed[task]) - 1).square().mean() for task in tasks}


def trained(steps: list[str], named: bool) -> Two:
    net, balancer = Two(), MoCo(["a", "b"])
    shared = SharedParameters([net.left.weight, net.right.weight]) if named else None
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for tasks in steps:
        optimizer.zero_grad()
        balancer.backward(net.losses(tasks), shared)
        optimizer.step()
    return net


@pytest.mark.parametrize("steps", [["ab", "ab"], ["ab", "ba", "ab"], ["ab", "a", "b", "ab"]])
def test_a_memory_is_of_the_same_parameters_at_each_step(steps: list[str]) -> None:
    found, named = trained(steps, named=False), trained(steps, named=True)
    for key, value in found.state_dict().items():
        assert torch.allclose(value, named.state_dict()[key], atol=1e-6), key


def test_a_first_step_of_one_task_cant_tell_what_is_shared() -> None:
    with pytest.raises(UsageError, match=r"name what is shared: shared=SharedParameters"):
        trained(["a", "ab"], named=False)


def test_inputs_that_want_gradients_go_with_their_step() -> None:
    found, weight = FoundParameters(), torch.ones(2, requires_grad=True)
    for _ in range(3):
        inputs = torch.ones(2, requires_grad=True)
        shared = found.of([(weight * inputs).sum(), (weight - inputs).square().sum()])
        assert {id(leaf) for leaf in shared} == {id(weight), id(inputs)}
        del inputs, shared


def test_a_copy_knows_nothing_of_another_network() -> None:
    found = FoundParameters()
    weight, other = (torch.ones(2, requires_grad=True) for _ in range(2))
    found.of([weight.sum(), weight.square().sum()])
    assert deepcopy(found).of([other.sum(), other.square().sum()]) == [other]
