"""Students that learn what teachers say."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from datamodules.mixed import MixedDataModule
from lightning_modules.transfer.divergences.soft import soft_divergence
from lightning_modules.transfer.hinton import Hinton
from lightning_modules.transfer.source import Source
from tests.lightning_modules.test_multitask import as_rank
from tests.lightning_modules.transfer.distillation.conftest import Run
from tests.lightning_modules.transfer.schools import (
    answers,
    at_work,
    both,
    first_batch,
    losses,
    names,
    step_of,
    still,
    teacher,
)
from tests.tiny import images, labels, multitask, task, texts


def test_the_loss_by_hand(run: Run, source: Source) -> None:
    """The labels' mean over labelled rows, the teacher's over all."""
    module, data = run
    at_work(Hinton("teacher", alpha=0.25, temperature=2.0), module, data, teacher=source)
    batch = first_batch(data)
    as_rank(module).training_step(batch, 0)
    rows = batch.batches["notes"]
    student, theirs = module.network(batch.batches)["kind"], answers(source, batch, "notes", "kind")
    apart = 4 * functional.kl_div(
        (student / 2).log_softmax(1), (theirs / 2).softmax(1), reduction="batchmean"
    )
    chosen = rows.present["kind"]
    assert 0 < chosen.sum() < len(chosen)
    right = functional.cross_entropy(student[chosen], rows.targets["kind"][chosen])
    assert module.losses["kind"].item() == pytest.approx((0.75 * right + 0.25 * apart).item())
    assert module.transfer.gauges() == {"distil/kind": pytest.approx(apart.item())}


def test_the_teacher_stays_outside(run: Run, source: Source) -> None:
    module, data = run
    said = at_work(Hinton("teacher"), module, data, teacher=source)
    before = {
        name: value.clone() for name, value in source.predictor().network.state_dict().items()
    }
    assert not list(module.transfer.parameters())
    assert not module.transfer.state_dict()
    module.train()
    module.backward(as_rank(module).training_step(first_batch(data), 0))
    network = source.predictor().network
    assert not any(part.training for part in network.modules())
    assert all(weight.grad is None for weight in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    twin = deepcopy(module.transfer)
    assert isinstance(twin, Hinton)
    assert twin.school is module.transfer.school  # type: ignore[union-attr]  # a Hinton
    assert said[0] == "kind: taught by teacher on notes"


def test_classes_are_matched_by_name(run: Run, source: Source) -> None:
    module, data = run
    batch = first_batch(data)
    at_work(Hinton("teacher", alpha=1.0), module, data, teacher=source)
    expected = losses(module.transfer, module, batch).by_task["kind"].item()  # type: ignore[arg-type]
    other = teacher(data)
    own, head = other.predictor().tasks["kind"], other.predictor().network.heads["kind"]
    own.classes = list(reversed(own.classes))
    with torch.no_grad():
        for weight in head.parameters():
            weight.copy_(weight.flip(0))
    at_work(Hinton("other", alpha=1.0), module, data, other=other_named(other))
    found = losses(module.transfer, module, batch).by_task["kind"].item()  # type: ignore[arg-type]
    assert found == pytest.approx(expected)


def other_named(source: Source) -> Source:
    from dataclasses import replace

    return replace(source, name="other", digest="other")


def test_several_teachers_are_averaged(run: Run) -> None:
    module, data = run
    one, two = teacher(data, "one", 1), teacher(data, "two", 2)
    named = [{"source": "one", "weight": 3}, "two"]
    at_work(Hinton(named, temperature=1.0), module, data, one=one, two=two)
    step = step_of(module, first_batch(data))
    lesson = module.transfer.school.courses["kind"].lesson(step)  # type: ignore[union-attr]
    said = [answers(source, step.batch, "notes", "kind").softmax(1) for source in (one, two)]
    assert lesson is not None
    assert torch.allclose(lesson.teacher.softmax(1), 0.75 * said[0] + 0.25 * said[1], atol=1e-6)


def test_unlabelled_data_sets_are_taught(tmp_path: Path) -> None:
    """A data set without a column of labels; a step that has its rows only."""
    spec = task("notes")
    spec.datasets, spec.unlabelled = ["notes", "more"], ["more"]
    more = texts(24)
    del more.source.columns["label"]  # type: ignore[attr-defined]  # in memory
    data = still({"notes": texts(40), "more": more}, {"kind": spec}, tmp_path)
    module, source = multitask(data), teacher(data)
    at_work(Hinton("teacher", alpha=1.0), module, data, teacher=source)
    batch = first_batch(data)
    del batch.batches["notes"]
    batch.sizes["notes"], batch.labelled = 0, {"kind": 0}
    assert names(module.transfer, batch) == ["kind"]  # type: ignore[arg-type]
    as_rank(module).training_step(batch, 0)
    student = module.network(batch.batches)["kind"]
    apart = soft_divergence(student, answers(source, batch, "more", "kind"), 4.0).mean()
    assert module.losses["kind"].item() == pytest.approx(apart.item())


def test_rows_without_the_teachers_modality_learn_nothing_from_it(tmp_path: Path) -> None:
    data = still({"all": both(label=labels(40))}, {"kind": task("all")}, tmp_path)
    pictures = still({"shapes": images(24, label=labels(24))}, {"kind": task("shapes")}, tmp_path)
    module, source = multitask(data), teacher(pictures)
    at_work(Hinton("teacher", alpha=1.0), module, data, teacher=source)
    step = step_of(module, first_batch(data))
    has = step.batch.batches["all"].has["image"]
    lesson = module.transfer.school.courses["kind"].lesson(step)  # type: ignore[union-attr]
    assert lesson is not None
    assert lesson.rows == len(lesson.student) == int(has.sum()) < len(has)
    assert torch.equal(lesson.student, step.outputs["kind"][has])


def test_a_teacher_reads_a_column_that_the_student_does_not(tmp_path: Path) -> None:
    """Cross-modal: the student has texts only, the teacher looked at pictures."""
    only = both(inputs={"text": "text"}, label=labels(40))
    data = still({"all": only}, {"kind": task("all")}, tmp_path)
    pictures = still({"shapes": images(24, label=labels(24))}, {"kind": task("shapes")}, tmp_path)
    module, source = multitask(data), teacher(pictures)
    at_work(Hinton("teacher"), module, data, teacher=source)
    step = step_of(module, first_batch(data))
    lesson = module.transfer.school.courses["kind"].lesson(step)  # type: ignore[union-attr]
    assert lesson is not None
    rows = data.parts["train"]["all"].rows[step.batch.batches["all"].index]
    pictured = [row for row in rows if row % 5 != 4]
    assert len(lesson.teacher) == len(pictured)
    store = pictures.modalities["image"].prepare([pixels_of(data, row) for row in pictured]).store
    network = source.predictor().network
    seen = network.encoder("image")(store.rows(torch.arange(len(pictured)).numpy()))
    expected = network.heads["kind"](network.trunk.norm(network.trunk.blocks(seen.pooled)))  # type: ignore[operator, union-attr]
    assert torch.allclose(lesson.teacher, expected, atol=1e-5)


def pixels_of(data: MixedDataModule, row: int) -> Any:
    return data.loaded["all"].table.columns["image"][row]


def test_a_task_of_the_run_teaches_another(tmp_path: Path) -> None:
    tasks = {"kind": task("notes"), "same": task("notes", "more")}
    data = still({"notes": texts(40), "more": texts(40)}, tasks, tmp_path)
    module = multitask(data)
    said = at_work(Hinton({"kind": "task:same"}, alpha=1.0), module, data)
    assert said == ["kind: taught by task:same on notes"]
    batch = first_batch(data)
    assert names(module.transfer, batch) == ["kind", "same"]  # type: ignore[arg-type]
    step = step_of(module, batch)
    module.transfer.losses(step).by_task["kind"].backward()  # type: ignore[no-untyped-call]
    lesson = module.transfer.school.courses["kind"].lesson(step)  # type: ignore[union-attr]
    assert lesson is not None
    assert torch.equal(lesson.teacher, step.outputs["same"][: len(lesson.teacher)].detach())
    assert all(weight.grad is None for weight in module.network.heads["same"].parameters())
