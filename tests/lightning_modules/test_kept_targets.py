"""Targets keep their numbers, whatever the precision of the weights."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision, Precision

from datamodules.batch import MixedBatch
from lightning_modules.evaluation_module import keep_targets


@pytest.mark.parametrize(
    ("plugin", "dtype"),
    [
        (HalfPrecision("bf16-true"), torch.bfloat16),
        (HalfPrecision("16-true"), torch.float16),
        (DoublePrecision(), torch.float64),
        (Precision(), torch.float32),
    ],
)
def test_inputs_are_converted_and_targets_are_not(plugin: Precision, dtype: torch.dtype) -> None:
    years = torch.tensor([1998.0, 2001.0, 70_000.0])
    batch = MixedBatch.of(inputs={"image": torch.rand(3, 1, 4, 4)}, targets={"year": years})
    for _ in range(2):  # once for each stage of a trainer
        keep_targets(plugin)
    (rows,) = plugin.convert_input(batch).batches.values()
    assert rows.inputs["image"].dtype == dtype
    assert torch.equal(rows.targets["year"], years)
    assert plugin.convert_input(torch.ones(1)).dtype == dtype
