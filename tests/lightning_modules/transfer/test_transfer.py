"""How knowledge from elsewhere reaches a run."""

from __future__ import annotations

import pytest
import torch

from lightning_modules.trace import Trace
from lightning_modules.transfer.base import TransferStep
from tests.lightning_modules.transfer.sources import One, source_of
from tests.rows import Row, ids, rows
from tests.tiny import multitask, ready


@pytest.mark.parametrize("row", rows("transfer"), ids=ids)
def test_row(row: Row) -> None:
    data = ready()
    module, transfer = multitask(data), row.build()
    transfer.setup(module, data, One(source_of(module, data)))
    transfer.prepare(torch.device("cpu"), lambda _: None)
    batch, trace = next(iter(data.train_dataloader())), Trace()
    outputs = module.network(batch.batches, trace=trace)
    found = transfer.losses(TransferStep(batch, outputs, trace))
    by_task, rest = row.expected
    losses = {task: loss.item() for task, loss in found.by_task.items()}
    assert losses == pytest.approx(by_task, abs=1e-5)
    assert (None if found.rest is None else found.rest.item()) == rest
