"""Whether teachers look at rows once, or as they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_modules.transfer.hinton import Hinton
from lightning_modules.transfer.source import Source
from pipeline.errors import UsageError
from tests.lightning_modules.transfer.distillation.conftest import Run
from tests.lightning_modules.transfer.schools import (
    answers,
    at_work,
    first_batch,
    step_of,
    still,
    teacher,
)
from tests.tiny import multitask, ready, task, texts


def test_rows_that_never_change_are_looked_up(run: Run, source: Source) -> None:
    module, data = run
    said = at_work(Hinton("teacher"), module, data, teacher=source)
    assert said[1:] == ["computing outputs of teacher for 20 rows of notes, once"]
    step = step_of(module, first_batch(data))
    lesson = module.transfer.school.courses["kind"].lesson(step)  # type: ignore[union-attr]
    theirs = answers(source, step.batch, "notes", "kind")
    assert lesson is not None
    assert torch.allclose(lesson.teacher, theirs, atol=1e-6)
    # another run finds them; a teacher that changed is asked anew
    assert at_work(Hinton("teacher"), module, data, teacher=source)[1:] == []
    changed = teacher(data, seed=2)
    assert len(at_work(Hinton("teacher"), module, data, teacher=changed)) == 2


def test_a_damaged_table_is_computed_again(run: Run, source: Source, tmp_path: Path) -> None:
    module, data = run
    at_work(Hinton("teacher"), module, data, teacher=source)
    (file,) = tmp_path.rglob("kind.npy")
    file.write_bytes(file.read_bytes()[:-4] + b"1234")
    assert len(at_work(Hinton("teacher"), module, data, teacher=source)) == 2


def test_rows_that_change_are_looked_at_as_they_come() -> None:
    data = ready()  # words are left out, pictures are moved
    module, source = multitask(data), teacher(data)
    said = at_work(Hinton("teacher"), module, data, teacher=source)
    assert said[2:] == [
        "note: teacher looks at the rows of notes in every step, as data.text.dropout=0.2 changes "
        "them",
        "note: teacher looks at the rows of shapes in every step, as data.image.shift=1.0 changes "
        "them",
    ]
    step = step_of(module, first_batch(data))
    lesson = module.transfer.school.courses["shapes"].lesson(step)  # type: ignore[union-attr]
    assert lesson is not None
    assert torch.allclose(lesson.teacher, answers(source, step.batch, "shapes", "shapes"))


def test_kept_features_leave_a_table(tmp_path: Path) -> None:
    """The step then has no inputs that a teacher could look at."""
    data = still({"notes": texts(40)}, {"kind": task("notes")}, tmp_path)
    kept: Any = {"text": object()}
    data.parts["train"]["notes"].kept = kept
    module, source = multitask(data), teacher(data)
    at_work(Hinton("teacher"), module, data, teacher=source)
    assert module.transfer.school.models["teacher", "notes"].live is None  # type: ignore[union-attr]


def test_streamed_rows_are_looked_at_as_they_come(tmp_path: Path) -> None:
    data = still({"notes": texts(40)}, {"kind": task("notes")}, tmp_path)
    data.loaded["notes"].table.streamed = {"text": np.ones(40, bool)}
    module, source = multitask(data), teacher(data)
    said = at_work(Hinton("teacher"), module, data, teacher=source)
    assert said[1:] == [
        "note: teacher looks at the rows of notes in every step, as they are streamed"
    ]
    named = Hinton("teacher", inputs={"notes": {"text": "text"}})
    with pytest.raises(UsageError, match=r"data.datasets.notes.streaming=false"):
        at_work(named, module, data, teacher=source)
