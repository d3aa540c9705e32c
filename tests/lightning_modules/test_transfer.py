"""How knowledge from elsewhere reaches a run."""

from __future__ import annotations

import pytest

from tests.rows import Row, ids, rows
from tests.tiny import multitask, ready


@pytest.mark.parametrize("row", rows("transfer"), ids=ids)
def test_row(row: Row) -> None:
    data = ready()
    module, transfer = multitask(data), row.build()
    transfer.setup(module, data)
    step = next(iter(data.train_dataloader()))
    found = transfer.losses(module.network(step.batches), step)
    assert (found.by_task, found.rest) == row.expected
