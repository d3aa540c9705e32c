"""Teachers that can't teach here are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from datamodules.loading import TaskSpec
from datamodules.mixed import MixedDataModule
from lightning_modules.tasks.ordinal import Ordinal
from lightning_modules.tasks.regression import Regression
from lightning_modules.tasks.tagging import Tagging
from lightning_modules.transfer.hinton import Hinton
from lightning_modules.transfer.source import Source
from pipeline.errors import PollinateError, UsageError
from tests.lightning_modules.transfer.distillation.conftest import Run
from tests.lightning_modules.transfer.schools import (
    at_work,
    still,
    teacher,
)
from tests.tiny import images, labels, multitask, task, texts

WRONG: dict[str, tuple[Any, str]] = {
    "no teachers": ({"teachers": {}}, r"transfer.teachers must name sources, got none"),
    "none for a task": ({"teachers": {"kind": []}}, "must name sources for kind, got none"),
    "unknown task": ({"teachers": {"kid": "teacher"}}, r"names the task 'kid'; did you mean kind?"),
    "unknown key": (
        {"teachers": {"kind": {"source": "teacher", "wait": 1}}},
        r"transfer.teachers.kind must be a source, {source: RUN, task: NAME, weight: 1} or a list",
    ),
    "weight": (
        {"teachers": {"kind": {"source": "teacher", "weight": 0}}},
        "kind: weight must be > 0, got 0",
    ),
    "map of an unknown task": (
        {"teachers": "teacher", "map": {"kid": "kind"}},
        r"transfer.map names the task 'kid'",
    ),
    "a teacher that lacks the task": (
        {"teachers": "teacher", "map": {"kind": "kin"}},
        r"teacher has no task 'kin' to teach kind; did you mean kind\? its tasks: kind; say which "
        r"one does, transfer.map={kind: NAME}",
    ),
    "itself": ({"teachers": {"kind": "task:kind"}}, "a task can't teach itself"),
    "unknown peer": ({"teachers": {"kind": "task:x"}}, "names the task 'x'; tasks: kind"),
    "inputs of an unknown data set": (
        {"teachers": "teacher", "inputs": {"note": {"text": "text"}}},
        r"transfer.inputs names the data set 'note'; did you mean notes\?",
    ),
    "inputs of a column that isn't there": (
        {"teachers": "teacher", "inputs": {"notes": {"text": "txt"}}},
        r"transfer.inputs.notes.text names the column 'txt', which the data set hasn't; did you",
    ),
    "inputs that nobody reads": (
        {"teachers": "teacher", "inputs": {"notes": {"audio": "text"}}},
        r"transfer.inputs.notes gives audio, which no teacher of its tasks reads; they read: text",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_options(case: str, run: Run, source: Source) -> None:
    options, message = WRONG[case]
    with pytest.raises(UsageError, match=message):
        at_work(Hinton(**options), run[0], run[1], teacher=source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, r"alpha must be in \[0, 1\], got 1.5"),
        ({"temperature": 0.0}, "temperature must be > 0, got 0.0"),
    ],
)
def test_wrong_numbers(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Hinton("teacher", **options)


def test_other_classes_are_refused_by_name(run: Run, tmp_path: Path) -> None:
    others = still(
        {"notes": texts(40, label=labels(40, ("no", "maybe", "so")))},
        {"kind": task("notes")},
        tmp_path,
    )
    message = (
        "the task kind of teacher must have the classes of kind here to teach it: it lacks yes and "
        "also has maybe, so"
    )
    with pytest.raises(PollinateError, match=message):
        at_work(Hinton("teacher"), *run, teacher=teacher(others))


def test_another_order_is_refused(tmp_path: Path) -> None:
    first = {"stars": TaskSpec(Ordinal(["1", "2", "3"]), ["notes"], "stars")}
    second = {"stars": TaskSpec(Ordinal(["3", "2", "1"]), ["notes"], "stars")}
    sets = {"notes": texts(40, stars=[str(1 + row % 3) for row in range(40)])}
    data, other = still(sets, first, tmp_path), still(sets, second, tmp_path)
    with pytest.raises(PollinateError, match="must have its classes in the order of stars here"):
        at_work(Hinton("teacher"), multitask(data), data, teacher=teacher(other))


def test_another_type_is_refused(run: Run, tmp_path: Path) -> None:
    tasks = {"kind": TaskSpec(Regression(), ["notes"], "price")}
    numbers = still({"notes": texts(40, price=[row % 8 for row in range(40)])}, tasks, tmp_path)
    with pytest.raises(
        UsageError, match="the task kind of teacher is regression, and kind here is"
    ):
        at_work(Hinton("teacher"), *run, teacher=teacher(numbers))


def test_tasks_that_cannot_be_taught_are_refused(tmp_path: Path) -> None:
    tags = ["B-x" if row % 2 else "O" for row in range(40)]
    tasks = {"slots": TaskSpec(Tagging(), ["notes"], "tags")}
    words = [[f"word{row}"] for row in range(40)]
    data = still({"notes": texts(40, tags=tags, text=words)}, tasks, tmp_path)
    with pytest.raises(UsageError, match="slots is tagging; name the tasks to be taught"):
        Hinton("teacher").setup(multitask_without(data), data, None)  # type: ignore[arg-type]


def multitask_without(data: MixedDataModule) -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(tasks={name: spec.task for name, spec in data.tasks.items()})


def test_a_teacher_that_reads_nothing_here_is_refused(run: Run, tmp_path: Path) -> None:
    pictures = still({"shapes": images(24, label=labels(24))}, {"kind": task("shapes")}, tmp_path)
    message = (
        r"teacher reads image to answer kind, and notes has none; name the column: "
        r"transfer.inputs={notes: {image: COLUMN}}"
    )
    with pytest.raises(UsageError, match=message):
        at_work(Hinton("teacher"), *run, teacher=teacher(pictures))


def test_peers_without_common_rows_are_refused(tmp_path: Path) -> None:
    tasks = {"kind": task("notes"), "same": task("more")}
    data = still({"notes": texts(40), "more": texts(40)}, tasks, tmp_path)
    with pytest.raises(UsageError, match=r"data.tasks.same.unlabelled=\[notes\]"):
        at_work(Hinton({"kind": "task:same"}), multitask(data), data)
