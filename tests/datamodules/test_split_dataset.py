"""One split of a data set: label fractions, tasks that share rows."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from datamodules.split_dataset import label_generator, label_subset, labels_overlap
from tests.tiny import datamodule

PRESENT = np.arange(200) % 10 != 0
CLASSES = np.where(np.arange(200) < 40, 0, 1)


def left(share: float, seed: int = 0, task: str = "label") -> np.ndarray:
    return label_subset(PRESENT, CLASSES, share, label_generator(seed, "notes", task))


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_each_class_is_left_its_share(share: float) -> None:
    found = left(share)
    for number, count in ((0, 36), (1, 144)):
        assert found[number == CLASSES].sum() == round(share * count)
    assert not found[~PRESENT].any()


def test_one_of_each_class_is_left() -> None:
    assert [left(1e-6)[number == CLASSES].sum() for number in (0, 1)] == [1, 1]


def test_a_smaller_share_is_part_of_a_larger() -> None:
    assert not (left(0.1) & ~left(0.4)).any()


def test_seed_and_task_draw_others() -> None:
    assert (left(0.5) == left(0.5)).all()
    assert (left(0.5) != left(0.5, seed=1)).any()
    assert (left(0.5) != left(0.5, task="other")).any()


def test_rows_stay_and_other_splits_keep_their_labels() -> None:
    whole, part = datamodule(), datamodule()
    part.label_fraction = 0.5
    for module in (whole, part):
        module.setup()
    assert part.labelled_rows() == {"notes": 10, "shapes": 6}
    assert part.sizes == whole.sizes
    for split in ("valid", "test"):
        for name, own in part.parts[split].items():
            assert own.present[name].equal(whole.parts[split][name].present[name])
    assert part.tasks["notes"].classes == whole.tasks["notes"].classes


def together(**masks: str) -> bool:
    """Ask for tasks on two data sets of three rows each; a 1 is a label."""
    specs = {task: SimpleNamespace(datasets=["one", "two"]) for task in masks}
    rows = {task: torch.tensor([mark == "1" for mark in marks]) for task, marks in masks.items()}
    parts = {
        name: SimpleNamespace(present={task: mask[part] for task, mask in rows.items()})
        for name, part in (("one", slice(3)), ("two", slice(3, 6)))
    }
    return labels_overlap(specs, parts)  # type: ignore[arg-type]  # what is read of them


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        ({"a": "111111", "b": "111111"}, True),
        ({"a": "111000", "b": "000111"}, False),
        ({"a": "111111", "b": "100000"}, True),  # few labels, but a has them all, too
        ({"a": "111100", "b": "001100"}, True),
        ({"a": "111100", "b": "001111"}, True),  # half of them
        ({"a": "111000", "b": "001110"}, False),
        ({"a": "111110", "b": "111110", "c": "000001"}, False),
        ({"a": "111000", "b": "000000"}, True),  # learns from another model's outputs
        ({"a": "111000"}, True),
    ],
)
def test_tasks_share_rows_where_their_labels_meet(masks: dict[str, str], expected: bool) -> None:
    assert together(**masks) is expected
