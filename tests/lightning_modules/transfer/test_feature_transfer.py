"""Methods that compare a run's features with a source's."""

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

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.balancers.base import Balancer
from lightning_modules.balancers.equal import Equal
from lightning_modules.balancers.gradient_base import GramianBalancer
from lightning_modules.hooks import TrainingStep
from lightning_modules.module import MultiTaskModule
from lightning_modules.network import ForwardTrace
from lightning_modules.transfer.adaptors import Adaptors
from lightning_modules.transfer.attention_transfer import AttentionTransfer
from lightning_modules.transfer.base import Transfer
from lightning_modules.transfer.cka import CKA
from lightning_modules.transfer.feature_pairs import FeaturePair
from lightning_modules.transfer.hints import Hints
from lightning_modules.transfer.relational import Relational
from lightning_modules.trunks.mmoe import MMoE
from lightning_modules.tuning.frozen import Frozen
from pollinate.errors import UsageError
from tests.lightning_modules.transfer.helpers import SingleSourceOpener, source_of
from tests.tiny import DIM, labels, multitask, ready, task, texts, trainer

Run = tuple[MultiTaskModule, MixedDataModule]

BOTH = {
    "datasets": {"notes": texts(kind=labels(40, "pqr"))},
    "tasks": {"mood": task("notes"), "kind": task("notes", target="kind")},
}


def run(seed: int, **options: Any) -> Run:
    data = ready(**options)
    module = multitask(data)
    torch.manual_seed(seed)
    for weight in module.parameters():
        with torch.no_grad():
            weight.add_(0.1 * torch.randn_like(weight))
    return module, data


def step_of(module: MultiTaskModule, data: MixedDataModule) -> TrainingStep:
    batch, trace = next(iter(data.train_dataloader())), ForwardTrace()
    return TrainingStep(batch, module.network(batch.batches, trace=trace), trace)


METHODS: dict[str, Callable[[], Transfer]] = {
    "hints": lambda: Hints("a"),
    "hints of tokens": lambda: Hints("a", "sequence", ["text"]),
    "hints of cells": lambda: Hints("a", "grid", ["image"]),
    "hints of heads": lambda: Hints("a", "representation"),
    "attention": lambda: AttentionTransfer("a", modalities=["image"]),
    "attention of tokens": lambda: AttentionTransfer("a", "sequence", ["text"]),
    "relational": lambda: Relational("a"),
    "relational of heads": lambda: Relational("a", "representation"),
    "cka": lambda: CKA("a"),
    "cka of heads": lambda: CKA("a", "representation"),
    "adaptors": lambda: Adaptors({"notes": "a", "shapes": "a"}),
}


@pytest.fixture
def source() -> SingleSourceOpener:
    return SingleSourceOpener(source_of(*run(1)))


FIXED = {"hints of cells", "attention"}  # a grid without weights, as the tiny encoder has it


@pytest.mark.parametrize("name", METHODS)
def test_all_add_a_loss_whose_gradient_reaches_this_run_alone(
    name: str, source: SingleSourceOpener
) -> None:
    module, data = run(2)
    module.transfer = method = METHODS[name]()
    lines = method.setup(module, data, source)
    assert lines
    found = method.losses(step_of(module, data))
    losses = [
        *found.by_task.values(),
        *([] if found.regularization is None else [found.regularization]),
    ]
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


def test_a_loss_of_heads_belongs_to_tasks_and_of_encoders_to_none(
    source: SingleSourceOpener,
) -> None:
    module, data = run(2)
    for method, tasks in ((Hints("a"), set()), (Hints("a", "representation"), {"notes", "shapes"})):
        method.setup(module, data, source)
        found = method.losses(step_of(module, data))
        assert found.by_task.keys() == tasks
        assert (found.regularization is None) == bool(tasks)


def test_weight_and_end(source: SingleSourceOpener) -> None:
    module, data = run(2)
    full, half = Hints("a", weight=2.0), Hints("a", weight=1.0, until=5)
    for method in (full, half):
        method.setup(module, data, source)
    step = step_of(module, data)
    one, other = full.losses(step).regularization, half.losses(step).regularization
    assert one is not None
    assert other is not None
    assert one.item() == pytest.approx(2 * other.item())
    step.steps_done = 5
    assert half.losses(step).regularization is None
    assert half.gauges() == {}


def test_rows_without_labels_learn_too(source: SingleSourceOpener) -> None:
    module, data = run(2)
    method = Hints("a", "representation", tasks=["notes"])
    method.setup(module, data, source)
    batch = next(iter(data.train_dataloader()))
    batch.labelled = {"notes": 0, "shapes": batch.labelled["shapes"]}
    assert list(method.required_tasks(batch)) == ["notes"]
    batch.sizes = {"notes": 0, "shapes": 4}
    assert list(method.required_tasks(batch)) == []


def test_a_task_learns_from_another_of_the_run() -> None:
    module, data = run(2, **BOTH)
    module.network.trunk = MMoE(["mood", "kind"], DIM)
    method = Hints("task:mood")
    assert method.setup(module, data, SingleSourceOpener(source_of(module, data))) == [
        "kind: 8 here, 8 of mood"
    ]
    found = method.losses(step_of(module, data))
    assert found.by_task.keys() == {"kind"}
    found.by_task["kind"].backward()  # type: ignore[no-untyped-call]  # torch's is not annotated
    gates: Any = module.network.trunk.gates
    assert any(w.grad is not None for w in gates["kind"].parameters())
    assert all(w.grad is None for w in gates["mood"].parameters())


def test_a_source_may_name_its_task_otherwise() -> None:
    source = SingleSourceOpener(
        source_of(*run(1, datasets={"notes": texts()}, tasks={"memo": task("notes")}))
    )
    module, data = run(2, datasets={"notes": texts()})
    hints = Hints("a", "representation", tasks={"notes": "memo"})
    assert hints.setup(module, data, source) == ["notes: 8 here, 8 of memo of runs/a"]
    # the only task of a source teaches, whatever its name
    assert Adaptors({"notes": "a"}).setup(module, data, source) == [
        "notes: 8 here, 8 of memo of runs/a"
    ]


def test_two_tasks_may_learn_from_one() -> None:
    source = SingleSourceOpener(source_of(*run(1, **BOTH)))
    module, data = run(2, **BOTH)
    method = Hints("a", "representation", tasks={"mood": "mood", "kind": "mood"})
    assert len(method.setup(module, data, source)) == 2


class Sum(GramianBalancer):
    """Adds the tasks' gradients up."""

    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        return torch.ones(len(losses), dtype=torch.float64)


def trained(
    name: str,
    source: SingleSourceOpener,
    folder: Path,
    balancer: Callable[[Sequence[str]], Balancer],
    every: int,
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
    source = SingleSourceOpener(source_of(*run(1, **BOTH)))
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
    module.transfer.setup(module, data, SingleSourceOpener(source_of(*run(1))))
    fit = trainer(tmp_path, max_steps=1, limit_val_batches=0, precision=precision)
    fit.precision_plugin.convert_module(module)
    fit.fit(module, datamodule=data)
    assert all(weight.isfinite().all() for weight in module.parameters())
    assert all(math.isfinite(value) for value in module.transfer.gauges().values())


def test_a_resumed_run_goes_on_with_the_method_s_own_parameters(tmp_path: Path) -> None:
    source = SingleSourceOpener(source_of(*run(1)))

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


BAD: dict[str, tuple[Callable[[], Transfer], Callable[[], Run], str]] = {
    "weight": (lambda: Hints("a", weight=-1.0), lambda: run(2), "weight must be >= 0, got -1.0"),
    "until": (lambda: Hints("a", until=0), lambda: run(2), "until must be >= 1 optimizer step"),
    "at": (
        lambda: Hints("a", "pool"),
        lambda: run(2),
        "at must be pooled or sequence or grid or representation, got pool",
    ),
    "at of a task": (lambda: CKA("task:a", "pooled"), lambda: run(2), "for task:a, got pooled"),
    "attention of a task": (
        lambda: AttentionTransfer("task:a"),
        lambda: run(2),
        "source must be another model, got task:a",
    ),
    "modalities of heads": (
        lambda: Hints("a", "representation", ["text"]),
        lambda: run(2),
        "name transfer.tasks, or set at=pooled",
    ),
    "tasks of encoders": (
        lambda: Hints("a", tasks=["notes"]),
        lambda: run(2),
        "name transfer.modalities, or set at=representation",
    ),
    "modality": (
        lambda: Hints("a", modalities=["texts"]),
        lambda: run(2),
        "this run reads no texts; did you mean text?",
    ),
    "own task": (
        lambda: Hints("a", "representation", tasks=["note"]),
        lambda: run(2),
        "this run has no task 'note'; did you mean notes?",
    ),
    "no task": (
        lambda: Hints("a", "representation"),
        lambda: run(2, datasets={"memo": texts()}),
        "it has notes, shapes: say which teaches which, transfer.tasks={memo: ",
    ),
    "teacher's task": (
        lambda: Adaptors({"memo": "a"}),
        lambda: run(2, datasets={"memo": texts()}),
        "runs/a has no task 'memo'",
    ),
    "no teachers": (lambda: Adaptors({}), lambda: run(2), "transfer.teachers={TASK: RUN, ...}"),
    "grid of texts": (
        lambda: Hints("a", "grid", ["text"]),
        lambda: run(2),
        "encoder.text gives no grid; set transfer.at=pooled or sequence",
    ),
    "same trunk": (lambda: Hints("task:mood"), lambda: run(2, **BOTH), "choose trunk=mmoe, say"),
    "no such sibling": (lambda: Hints("task:moon"), lambda: run(2, **BOTH), "did you mean mood?"),
    "angles": (lambda: Relational("a", angles=-1.0), lambda: run(2), "angles must be >= 0"),
    "rows": (lambda: Relational("a", rows=2), lambda: run(2), "rows must be >= 3, got 2"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_named(name: str, source: SingleSourceOpener) -> None:
    make, runs, message = BAD[name]
    module, data = runs()
    with pytest.raises(UsageError) as error:
        make().setup(module, data, source)
    assert message in str(error.value)


@pytest.mark.parametrize("single", ["own", "other"])
def test_attention_of_one_cell_says_nothing(single: str) -> None:
    sides = {"own": (4, 4), "other": (4, 4)} | {single: (1, 1)}
    features = {whose: torch.randn(2, 3, *side) for whose, side in sides.items()}
    with pytest.raises(UsageError, match=r"image: .* grid must have 2 cells or more, got 1"):
        AttentionTransfer("a").prepare_pair("image", FeaturePair(**features, rows=2))


def test_siblings_need_the_same_rows() -> None:
    module, data = run(2)
    module.network.trunk = MMoE(["notes", "shapes"], DIM)
    with pytest.raises(UsageError, match=r"another task must read the same data sets as notes"):
        Hints("task:notes").setup(module, data, SingleSourceOpener(source_of(module, data)))
    with pytest.raises(UsageError, match=r"task shapes must read the same data sets as notes"):
        Hints("task:notes", tasks=["shapes"]).setup(
            module, data, SingleSourceOpener(source_of(module, data))
        )


def test_features_that_are_kept_are_refused(source: SingleSourceOpener) -> None:
    module, data = run(2)
    module.network.tunings["text"] = Frozen()
    with pytest.raises(UsageError, match=r"set encoder\.text\.tune\.cache=false"):
        Hints("a").setup(module, data, source)
