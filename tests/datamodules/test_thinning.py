"""A share of the labels: of each class, by the seed, the smaller within the larger."""

from __future__ import annotations

import numpy as np
import pytest

from datamodules.thinning import generator, thinned
from tests.tiny import datamodule

PRESENT = np.arange(200) % 10 != 0
CLASSES = np.where(np.arange(200) < 40, 0, 1)


def left(share: float, seed: int = 0, task: str = "label") -> np.ndarray:
    return thinned(PRESENT, CLASSES, share, generator(seed, "notes", task))


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
    part.labels = 0.5
    for module in (whole, part):
        module.setup()
    assert part.labelled_rows() == {"notes": 10, "shapes": 6}
    assert part.sizes == whole.sizes
    for split in ("valid", "test"):
        for name, own in part.parts[split].items():
            assert own.present[name].equal(whole.parts[split][name].present[name])
    assert part.tasks["notes"].task.classes == whole.tasks["notes"].task.classes
