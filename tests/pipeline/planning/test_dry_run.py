"""A rehearsed step against a real one, and that it leaves no trace."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch.optim import Optimizer

from lightning_modules.balancers.graddrop import GradDrop
from lightning_modules.balancers.upgrad import UPGrad
from lightning_modules.module import MultiTaskModule
from lightning_modules.optimization import parameter_groups
from pipeline.planning.cost import CostEstimator, dataset_modalities
from pipeline.planning.counter import FlopMemoryCounter
from pipeline.planning.dry_run import DryRun, balancer_memory, batch_templates, network_parts
from pipeline.planning.hardware import HardwareSetup
from tests import tiny

COUNTS = {"notes": 6, "shapes": 10}


def real_step(module: MultiTaskModule) -> tuple[FlopMemoryCounter, int]:
    """Two real steps; return the tally of the second, and what was live before it."""
    data = tiny.ready()
    _, longest = batch_templates(data)
    flop_counter, network, plan = FlopMemoryCounter(), module.network.train(), module.optimization
    with flop_counter:
        for tensor in (*network.parameters(), *network.buffers()):
            flop_counter.add(tensor)
        optimizer = plan.optimizer(parameter_groups({"": network}, plan.lr, {}, plan.decay))
        for number in range(2):
            batches = longest.repeated(COUNTS)
            for batch in batches.values():
                for tensor in (*batch.inputs.values(), *batch.targets.values()):
                    tensor.zero_().add_(1)
            gc.collect()
            before = flop_counter.restart() - batch_bytes(batches)
            flop_counter.forward.clear()
            flop_counter.backward.clear()
            with flop_counter.parts(network_parts(network)):
                outputs = network(batches)
            losses = [
                module.tasks[t].loss(o, batches[network.routes[t][0]].targets[t]).sum()
                for t, o in outputs.items()
            ]
            del outputs
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()
            del losses
            if number == 0:
                optimizer.step()
            del batches, batch, tensor
    return flop_counter, before


def batch_bytes(batches: Any) -> int:
    """Bytes of a batch."""
    return sum(
        tensor.untyped_storage().nbytes()
        for batch in batches.values()
        for tensors in (batch.inputs, batch.targets, batch.present, {"": batch.index})
        for tensor in tensors.values()
    )


@pytest.mark.parametrize(
    "optimizer", [tiny.SGD, partial(torch.optim.AdamW, lr=0.1)], ids=["sgd", "adamw"]
)
def test_a_rehearsed_step_is_a_real_one(optimizer: Callable[..., Optimizer]) -> None:
    data = tiny.ready()
    module = tiny.multitask(data, optimizer=optimizer, dropout=0.1)
    found = DryRun(module, HardwareSetup()).step(batch_templates(data)[1], COUNTS)
    real, before = real_step(module)
    assert found.forward == real.forward
    assert found.backward == real.backward
    assert found.weights + found.gradients + found.state == pytest.approx(before, rel=0.01)
    planned = found.weights + found.gradients + found.state + found.activations
    assert planned == pytest.approx(real.peak, rel=0.03)


def test_evaluation_needs_memory_and_is_no_part_of_a_step() -> None:
    data = tiny.ready()
    dry_run = DryRun(tiny.multitask(data), HardwareSetup())
    alone = dry_run.step(batch_templates(data)[1], COUNTS)
    both = dry_run.step(batch_templates(data)[1], COUNTS, COUNTS)
    assert both.evaluation > alone.evaluation == 0
    assert both.forward == alone.forward


def test_features_that_are_kept_are_not_computed() -> None:
    data = tiny.ready()
    module = tiny.multitask(data)
    whole, frozen = (
        DryRun(module, HardwareSetup(), kept).step(batch_templates(data)[1], COUNTS)
        for kept in ([], ["image"])
    )
    assert whole.forward["encoders.image"] > frozen.forward["encoders.image"] == 0
    assert frozen.forward["trunk"] == whole.forward["trunk"]
    assert frozen.weights == whole.weights


def test_nothing_of_the_run_changes() -> None:
    data = tiny.ready()
    module = tiny.multitask(data, UPGrad, dropout=0.1)
    before, draws = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    state = copy.deepcopy(data.state_dict())
    CostEstimator(module, data, HardwareSetup()).cost()
    assert torch.equal(draws, torch.get_rng_state())
    assert data.state_dict() == state
    after = module.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(p.grad is None and p.device.type == "cpu" for p in module.parameters())
    assert module.training
    assert torch.zeros(1).item() == 0  # tensors have numbers again


@pytest.mark.parametrize(
    ("factory", "numbers"),
    [
        (tiny.SGD, 0),
        (partial(torch.optim.SGD, lr=0.1, momentum=0.9), 1),
        (partial(torch.optim.Adam, lr=0.1), 2),
        (partial(torch.optim.Adam, lr=0.1, amsgrad=True), 3),
        (partial(torch.optim.RMSprop, lr=0.1, centered=True), 2),
    ],
)
def test_the_optimizer_itself_tells_its_state(
    factory: Callable[..., Optimizer], numbers: int
) -> None:
    data = tiny.ready()
    found = DryRun(tiny.multitask(data, optimizer=factory), HardwareSetup()).step(
        batch_templates(data)[1], COUNTS
    )
    tensors = len(list(tiny.network(data).parameters()))
    assert 0 <= found.state - numbers * found.gradients <= 8 * tensors  # and steps are counted


def test_a_balancer_keeps_a_row_for_each_task() -> None:
    tasks = ["a", "b", "c"]
    upgrad, graddrop = balancer_memory(UPGrad(tasks)), balancer_memory(GradDrop(tasks))
    assert upgrad.always == pytest.approx(3 * 4)
    assert upgrad.peak >= 3 * 4
    assert graddrop.peak >= 2 * 3 * 4  # it copies the rows


def test_precision_changes_bytes_and_not_operations() -> None:
    data = tiny.ready()
    module = tiny.multitask(data)
    steps = {
        name: DryRun(module, HardwareSetup(precision=name)).step(batch_templates(data)[1], COUNTS)
        for name in ("32-true", "bf16-true", "64-true", "bf16-mixed")
    }
    whole = steps["32-true"]
    assert steps["bf16-true"].gradients * 2 == whole.gradients == steps["64-true"].gradients / 2
    assert steps["bf16-mixed"].weights == whole.weights
    assert all(step.forward == whole.forward for step in steps.values())


def test_devices_divide_what_is_sharded() -> None:
    data = tiny.ready()
    module = tiny.multitask(data, optimizer=partial(torch.optim.Adam, lr=0.1))
    one = CostEstimator(module, data, HardwareSetup()).cost().memory
    both = CostEstimator(module, data, HardwareSetup(devices=2)).cost()
    sharded = CostEstimator(module, data, HardwareSetup(devices=2, sharded=True)).cost().memory
    averaged = CostEstimator(module, data, HardwareSetup(copies=1)).cost().memory
    assert both.rows == dict.fromkeys(dataset_modalities(data), 2)
    assert (both.memory.weights, both.memory.exchange) == (one.weights, one.gradients)
    assert sharded.weights == one.weights // 2
    assert sharded.gradients == one.gradients // 2
    assert sharded.optimizer == one.optimizer // 2
    assert averaged.total == one.total + one.weights
