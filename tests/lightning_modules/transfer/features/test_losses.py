"""Methods that compare a run's features with a source's."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lightning_modules.transfer.adaptors import Adaptors
from lightning_modules.transfer.hints import Hints
from lightning_modules.trunks.mmoe import MMoE
from tests.lightning_modules.transfer.features.runs import BOTH, METHODS, run, step_of
from tests.lightning_modules.transfer.sources import One, source_of
from tests.tiny import DIM, task, texts

FIXED = {"hints of cells", "attention"}  # a grid without weights, as the tiny encoder has it


@pytest.mark.parametrize("name", METHODS)
def test_all_add_a_loss_whose_gradient_reaches_this_run_alone(name: str, source: One) -> None:
    module, data = run(2)
    module.transfer = method = METHODS[name]()
    lines = method.setup(module, data, source)
    assert lines
    found = method.losses(step_of(module, data))
    losses = [*found.by_task.values(), *([] if found.rest is None else [found.rest])]
    total = torch.stack(losses).sum()
    assert total > 0 or name in FIXED
    if name not in FIXED:
        total.backward()
        assert any(w.grad is not None for w in module.network.encoders.parameters())
    assert all(w.grad is None for w in module.network.heads.parameters())
    assert not any("teacher" in key for key in module.state_dict())
    assert method.gauges().keys() <= {
        f"transfer/{type(method).__name__.lower()}/{key}"
        for key in ("image", "text", "notes", "shapes")
    }


def test_a_loss_of_heads_belongs_to_tasks_and_of_encoders_to_none(source: One) -> None:
    module, data = run(2)
    for method, tasks in ((Hints("a"), set()), (Hints("a", "representation"), {"notes", "shapes"})):
        method.setup(module, data, source)
        found = method.losses(step_of(module, data))
        assert found.by_task.keys() == tasks
        assert (found.rest is None) == bool(tasks)


def test_weight_and_end(source: One) -> None:
    module, data = run(2)
    full, half = Hints("a", weight=2.0), Hints("a", weight=1.0, until=5)
    for method in (full, half):
        method.setup(module, data, source)
    step = step_of(module, data)
    one, other = full.losses(step).rest, half.losses(step).rest
    assert one is not None
    assert other is not None
    assert one.item() == pytest.approx(2 * other.item())
    step.number = 5
    assert half.losses(step).rest is None
    assert half.gauges() == {}


def test_rows_without_labels_learn_too(source: One) -> None:
    module, data = run(2)
    method = Hints("a", "representation", tasks=["notes"])
    method.setup(module, data, source)
    batch = next(iter(data.train_dataloader()))
    batch.labelled = {"notes": 0, "shapes": batch.labelled["shapes"]}
    assert list(method.wanted(batch)) == ["notes"]
    batch.sizes = {"notes": 0, "shapes": 4}
    assert list(method.wanted(batch)) == []


def test_a_task_learns_from_another_of_the_run() -> None:
    module, data = run(2, **BOTH)
    module.network.trunk = MMoE(["mood", "kind"], DIM)
    method = Hints("task:mood")
    assert method.setup(module, data, One(source_of(module, data))) == ["kind: 8 here, 8 of mood"]
    found = method.losses(step_of(module, data))
    assert found.by_task.keys() == {"kind"}
    found.by_task["kind"].backward()  # type: ignore[no-untyped-call]  # torch's is not annotated
    gates: Any = module.network.trunk.gates
    assert any(w.grad is not None for w in gates["kind"].parameters())
    assert all(w.grad is None for w in gates["mood"].parameters())


def test_a_source_may_name_its_task_otherwise() -> None:
    source = One(source_of(*run(1, datasets={"notes": texts()}, tasks={"memo": task("notes")})))
    module, data = run(2, datasets={"notes": texts()})
    hints = Hints("a", "representation", tasks={"notes": "memo"})
    assert hints.setup(module, data, source) == ["notes: 8 here, 8 of memo of runs/a"]
    # the only task of a source teaches, whatever its name
    assert Adaptors({"notes": "a"}).setup(module, data, source) == [
        "notes: 8 here, 8 of memo of runs/a"
    ]


def test_two_tasks_may_learn_from_one() -> None:
    source = One(source_of(*run(1, **BOTH)))
    module, data = run(2, **BOTH)
    method = Hints("a", "representation", tasks={"mood": "mood", "kind": "mood"})
    assert len(method.setup(module, data, source)) == 2
