"""How knowledge from elsewhere reaches a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.hooks import TrainingStep
from lightning_modules.network import ForwardTrace
from lightning_modules.tasks.classification import Classification
from lightning_modules.transfer.hints import Hints
from lightning_modules.transfer.several import Several
from tests.lightning_modules.transfer.helpers import SingleSourceOpener, source_of
from tests.rows.groups import rows
from tests.rows.row import Row, ids
from tests.tiny import multitask, ready, task
from tests.writers import chosen, writer

TINY = 1e-5  # what rounding leaves of 0


def data_of(unlabelled: Mapping[str, str] | None) -> MixedDataModule:
    """The usual tasks, and {task: data set} without labels."""
    tasks = {name: task(name) for name in ("notes", "shapes")}
    known = {"classes": ["no", "yes"], "counts": [1, 1]}
    for name, dataset in (unlabelled or {}).items():
        where = (dataset,)
        tasks[name] = Classification((), unlabelled=where)
        tasks[name].known = known
    return ready(tasks=tasks, dropout=0.0)


@pytest.mark.parametrize("row", rows("transfer"), ids=ids)
def test_row(row: Row, tmp_path: Path) -> None:
    if row.given == "answers":
        module, data = writer(tmp_path, {"notes": chosen()})
    else:
        data = data_of(row.given)
        module = multitask(data)
    transfer = row.build()
    transfer.setup(module, data, SingleSourceOpener(source_of(module, data)))
    transfer.prepare(torch.device("cpu"), lambda _: None)
    batch, trace = next(iter(data.train_dataloader())), ForwardTrace()
    outputs = module.network(batch.batches, trace=trace)
    found = transfer.losses(TrainingStep(batch, outputs, trace))
    by_task, regularization = row.expected
    losses = {task: loss.item() for task, loss in found.by_task.items()}
    assert losses == pytest.approx(by_task, abs=TINY)
    assert (found.regularization is None) == (regularization is None)
    assert found.regularization is None or found.regularization.item() == pytest.approx(
        regularization, abs=TINY
    )


def test_two_methods_of_one_kind_are_both_logged() -> None:
    data = data_of(None)
    module = multitask(data)
    transfer = Several({"near": Hints("a", weight=1.0), "far": Hints("b", weight=2.0)})
    transfer.setup(module, data, SingleSourceOpener(source_of(module, data)))
    batch, trace = next(iter(data.train_dataloader())), ForwardTrace()
    transfer.losses(TrainingStep(batch, module.network(batch.batches, trace=trace), trace))
    one, two = (f"transfer/hints/{name}" for name in ("text", "image"))
    assert list(transfer.gauges()) == [one, two, f"{one}/far", f"{two}/far"]
