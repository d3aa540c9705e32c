"""Numbers, labels and orders are taught as classes are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.loading import TaskSpec
from datamodules.mixed import MixedDataModule
from lightning_modules.tasks.multilabel import Multilabel
from lightning_modules.tasks.ordinal import Ordinal
from lightning_modules.tasks.regression import Regression
from lightning_modules.transfer.decoupled import Decoupled
from lightning_modules.transfer.dist import Dist
from lightning_modules.transfer.hinton import Hinton
from pipeline.errors import UsageError
from tests.lightning_modules.transfer.schools import (
    answers,
    at_work,
    first_batch,
    step_of,
    still,
    teacher,
)
from tests.tiny import multitask, texts


def kinds_of_tasks(tmp_path: Path) -> MixedDataModule:
    columns = {
        "price": [float(row) for row in range(40)],
        "marks": ["new|sale" if row % 2 else "new|old" for row in range(40)],
        "stars": [str(1 + row % 3) for row in range(40)],
    }
    tasks = {
        "stars": TaskSpec(Ordinal(), ["notes"], "stars"),  # the first: rows are stratified by it
        "price": TaskSpec(Regression(), ["notes"], "price"),
        "marks": TaskSpec(Multilabel(), ["notes"], "marks"),
    }
    return still({"notes": texts(40, **columns)}, tasks, tmp_path)


def test_numbers_labels_and_orders_are_taught(tmp_path: Path) -> None:
    data = kinds_of_tasks(tmp_path)
    module, source = multitask(data), teacher(data)
    at_work(Hinton("teacher", alpha=1.0, temperature=2.0), module, data, teacher=source)
    step = step_of(module, first_batch(data))
    found = module.transfer.losses(step).by_task
    for name in ("price", "marks", "stars"):
        own, theirs = step.outputs[name], answers(source, step.batch, "notes", name)
        if name == "price":
            std = data.tasks["price"].task.std  # type: ignore[attr-defined]  # a Regression
            expected = ((own - theirs) / std).square() / 2
        else:
            p, q = (theirs / 2).sigmoid(), (own / 2).sigmoid()
            expected = 4 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log())
        assert found[name].item() == pytest.approx(expected.mean().item(), rel=1e-4), name


def test_several_teachers_of_numbers_and_labels(tmp_path: Path) -> None:
    data = kinds_of_tasks(tmp_path)
    module, one, two = multitask(data), teacher(data, "one", 1), teacher(data, "two", 2)
    method = Hinton({name: ["one", "two"] for name in data.tasks}, temperature=1.0)
    at_work(method, module, data, one=one, two=two)
    step = step_of(module, first_batch(data))
    for name, soft in (("price", torch.Tensor.double), ("marks", torch.sigmoid)):
        lesson = method.school.courses[name].lesson(step)
        said = [soft(answers(source, step.batch, "notes", name)) for source in (one, two)]
        assert lesson is not None
        assert torch.allclose(soft(lesson.teacher), (said[0] + said[1]) / 2, atol=1e-5)


@pytest.mark.parametrize("method", [Decoupled, Dist])
def test_methods_for_classes_only(method: Any, tmp_path: Path) -> None:
    data = kinds_of_tasks(tmp_path)
    with pytest.raises(UsageError, match=f"{method.__name__} teaches tasks that choose one of"):
        at_work(method({"price": "teacher"}), multitask(data), data, teacher=teacher(data))
