"""Comparing features in a whole run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from lightning_modules.balancers.base import Balancer
from lightning_modules.balancers.gramian.base import GramianBalancer
from lightning_modules.balancers.loss.equal import Equal
from lightning_modules.multitask import MultiTaskModule
from lightning_modules.transfer.hints import Hints
from tests.lightning_modules.transfer.features.runs import BOTH, METHODS, run
from tests.lightning_modules.transfer.sources import One, source_of
from tests.tiny import multitask, ready, trainer


class Sum(GramianBalancer):
    """Adds the tasks' gradients up."""

    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        return torch.ones(len(losses), dtype=torch.float64)


def trained(
    name: str, source: One, folder: Path, balancer: Callable[[Sequence[str]], Balancer], every: int
) -> dict[str, Tensor]:
    """Train two tasks on the same rows for two optimizer steps; return the weights."""
    data = ready(**BOTH)
    module = multitask(data, balancer)
    module.transfer = METHODS[name]()
    module.transfer.setup(module, data, source)
    fit = trainer(folder, max_steps=2, limit_val_batches=0, accumulate_grad_batches=every)
    fit.fit(module, datamodule=data)
    return {name: weight.detach().clone() for name, weight in module.named_parameters()}


@pytest.mark.parametrize("name", ["hints of tokens", "hints of heads", "relational"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_are_those_of_the_sum_wherever_tasks_are_balanced(
    name: str, accumulate: int, tmp_path: Path
) -> None:
    source = One(source_of(*run(1, **BOTH)))
    found = {
        level: trained(name, source, tmp_path, balancer, accumulate)
        for level, balancer in {
            "losses": Equal,
            "features": partial(Sum, level="features"),
            "parameters": partial(Sum, level="parameters"),
        }.items()
    }
    for level in ("features", "parameters"):
        for key, weight in found["losses"].items():
            assert torch.allclose(weight, found[level][key], atol=1e-5), (level, key)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
@pytest.mark.parametrize("name", ["hints", "hints of heads", "cka", "adaptors"])
def test_other_precisions(name: str, precision: Any, tmp_path: Path) -> None:
    module, data = run(2)
    module.transfer = METHODS[name]()
    module.transfer.setup(module, data, One(source_of(*run(1))))
    fit = trainer(tmp_path, max_steps=1, limit_val_batches=0, precision=precision)
    fit.precision_plugin.convert_module(module)
    fit.fit(module, datamodule=data)
    assert all(weight.isfinite().all() for weight in module.parameters())
    assert all(math.isfinite(value) for value in module.transfer.gauges().values())


def test_a_resumed_run_goes_on_with_the_method_s_own_parameters(tmp_path: Path) -> None:
    source = One(source_of(*run(1)))

    def fit(steps: int, checkpoint: Path | None = None) -> tuple[MultiTaskModule, Trainer]:
        module, data = run(2)
        module.transfer = Hints("a")
        module.transfer.setup(module, data, source)
        made = trainer(tmp_path, max_steps=steps, limit_val_batches=0)
        made.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        return module, made

    whole, _ = fit(4)
    _, stopped = fit(2)
    stopped.save_checkpoint(tmp_path / "stopped.ckpt")
    again, _ = fit(4, tmp_path / "stopped.ckpt")
    assert "transfer.regressors.image.weight" in whole.state_dict()
    for key, value in whole.state_dict().items():
        if "score" not in key:  # of epochs
            assert torch.equal(value, again.state_dict()[key]), key
