"""How knowledge from elsewhere reaches a run."""

from __future__ import annotations

import pytest

from lightning_modules.trace import Trace
from lightning_modules.transfer.base import TransferStep
from tests.lightning_modules.transfer.sources import One, source_of
from tests.rows import Row, ids, rows
from tests.tiny import multitask, ready

TINY = 1e-5  # what rounding leaves of 0


@pytest.mark.parametrize("row", rows("transfer"), ids=ids)
def test_row(row: Row) -> None:
    data = ready()
    module, transfer = multitask(data), row.build()
    transfer.setup(module, data, One(source_of(module, data)))
    batch, trace = next(iter(data.train_dataloader())), Trace()
    outputs = module.network(batch.batches, trace=trace)
    found = transfer.losses(TransferStep(batch, outputs, trace))
    by_task, rest = row.expected
    assert {t: loss.item() for t, loss in found.by_task.items()} == pytest.approx(by_task, abs=TINY)
    assert (found.rest is None) == (rest is None)
    assert found.rest is None or found.rest.item() == pytest.approx(rest, abs=TINY)
