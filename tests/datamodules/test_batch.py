"""Batches made of plain tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from datamodules.batch import ONE_DATASET, Batch, CachedFeatures, MixedBatch
from datamodules.features import Features
from pollinate.errors import UsageError

NAN = float("nan")
IDS = torch.ones(3, 5, dtype=torch.int64)


def labels(target: Any) -> tuple[Tensor, list[bool]]:
    """What becomes of the targets of three rows: the targets, and which are there."""
    batch = MixedBatch.of(inputs={"text": IDS}, targets={"tone": target}).batches[ONE_DATASET]
    return batch.targets["tone"], batch.present["tone"].tolist()


def test_one_call_makes_everything() -> None:
    batch = MixedBatch.of(
        {
            "notes": {"inputs": {"text": IDS}, "targets": {"tone": [1, None, 0]}},
            "shapes": {"inputs": {"image": torch.rand(2, 1, 8, 8)}, "targets": {"tone": [0, 1]}},
        }
    )
    assert batch.labelled == {"tone": 4}
    assert batch.sizes == {"notes": 3, "shapes": 2}
    assert batch.batches["notes"].index.tolist() == [0, 1, 2]
    assert batch.batches["notes"].modalities == ("text",)


@pytest.mark.parametrize(
    ("target", "expected", "present"),
    [
        (torch.tensor([2, -1, 0]), [2, 0, 0], [True, False, True]),
        (torch.tensor([2, -100, 0], dtype=torch.int32), [2, 0, 0], [True, False, True]),
        ([2, None, 0], [2, 0, 0], [True, False, True]),
        (np.array([0.5, np.nan, 2.0]), [0.5, 0.0, 2.0], [True, False, True]),
        ([0.5, None, 2], [0.5, 0.0, 2.0], [True, False, True]),
        (torch.tensor([True, False, True]), [1, 0, 1], [True, True, True]),
        # several numbers a row: flags, tags with their padding, pixels
        ([[1.0, 0.0], [NAN, NAN], [0.0, 0.0]], [[1, 0], [0, 0], [0, 0]], [True, False, True]),
        ([[3, -1], [-1, -1], [0, -100]], [[3, -1], [-1, -1], [0, -1]], [True, False, True]),
        (
            [[[NAN, 2.0]], [[NAN, NAN]], [[1.0, 1.0]]],
            [[[0, 2]], [[0, 0]], [[1, 1]]],
            [True, False, True],
        ),
    ],
)
def test_missing_labels(target: Any, expected: list[Any], present: list[bool]) -> None:
    found, there = labels(target)
    assert found.tolist() == expected
    assert there == present


def test_a_task_without_any_target() -> None:
    batch = MixedBatch.of(inputs={"text": IDS}, targets={"tone": None})
    assert batch.labelled == {}


def test_a_mask_hides_labels_and_rows_may_lack_a_modality() -> None:
    mask = torch.tensor([True, False, True])
    rows = {
        "inputs": {"text": IDS, "image": torch.rand(2, 1, 8, 8)},
        "has": {"image": mask},
        "targets": {"tone": torch.tensor([1, 1, -1])},
        "present": {"tone": mask},
        "index": torch.tensor([7, 8, 9]),
    }
    batch = MixedBatch.of({"notes": rows}).batches["notes"]
    assert batch.present["tone"].tolist() == [True, False, False]
    assert batch.index.tolist() == [7, 8, 9]
    assert batch.has["image"].tolist() == mask.tolist()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "needs rows, got neither"),
        ({"datasets": {}, "inputs": {}}, "got both"),
        (
            {"datasets": {"notes": IDS}},
            r"batch\['notes'\] must be .* got a tensor \(3, 5\) of int64",
        ),
        ({"inputs": {}}, "has no inputs"),
        ({"inputs": IDS}, "inputs must be {name: tensor}"),
        (
            {"inputs": {"text": IDS, "image": torch.rand(2, 1)}},
            "inputs of text: 3, inputs of image: 2",
        ),
        ({"inputs": {"text": torch.tensor(1)}}, "must have a row each"),
        ({"inputs": {"text": [[1, 2], [3]]}}, r"stack the rows to one tensor \(N, ...\)"),
        (
            {"inputs": {"text": IDS}, "targets": {"a": [[1.0, NAN]] * 3}},
            "all its labels or none, got .* in row 0",
        ),
        (
            {"inputs": {"text": IDS}, "targets": {"a": ["x", "y", None]}},
            "must be a tensor, got list of",
        ),
        (
            {"datasets": {"n": {"inputs": {"text": IDS}, "has": {"text": [True, False]}}}},
            "inputs of text must be of the 1 rows",
        ),
    ],
)
def test_wrong_rows(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MixedBatch.of(**given)


def test_all_tensors_are_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[tuple[int, ...]] = []

    def pin(tensor: Tensor) -> Tensor:
        pinned.append(tuple(tensor.shape))
        return tensor.clone()

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    batch = MixedBatch.of(inputs={"text": IDS}, targets={"tone": [1, 0, 1]})
    found = torch.utils.data._utils.pin_memory.pin_memory(batch)  # as a DataLoader does
    assert isinstance(found, MixedBatch)
    assert pinned == [(3, 5), (3,), (3,), (3,)]  # inputs, targets, which are there, index
    assert found.batches[ONE_DATASET].inputs["text"] is not IDS
    assert found.labelled == batch.labelled


def kept_rows() -> MixedBatch:
    """Return three rows, one without an image, with features on disk for the image's encoder."""
    features = Features(torch.ones(2, 4), mask=torch.ones(2, 1, dtype=torch.bool))
    rows = Batch(
        {"text": IDS},
        {"tone": torch.tensor([1, 0, 1])},
        {"tone": torch.tensor([True, True, False])},
        torch.arange(3),
        has={"image": torch.tensor([True, False, True])},
        words={"text": torch.zeros(3, 2, dtype=torch.int64)},
        cached={"image": CachedFeatures(features, whole=True)},
    )
    return MixedBatch({"notes": rows}, {"tone": 2}, {"notes": 3}, is_checked=False)


def devices_of(batch: MixedBatch) -> list[str]:
    """Return the device of every tensor, in whatever part of the batch it is."""
    found: list[str] = []
    apply_to_collection(batch, Tensor, lambda tensor: found.append(tensor.device.type))
    return found


def test_a_batch_moves_as_a_whole() -> None:
    batch = kept_rows()
    moved = move_data_to_device(batch, torch.device("meta"))  # as a Trainer does
    rows = moved.batches["notes"]
    assert devices_of(batch) == ["cpu"] * 8
    assert devices_of(moved) == ["meta"] * 8
    assert rows.cached["image"].features.grid is None
    assert rows.cached["image"].whole
    assert (moved.labelled, moved.sizes, moved.is_checked) == ({"tone": 2}, {"notes": 3}, False)


def test_tasks_without_gaps() -> None:
    batch = MixedBatch({}, {"a": 5, "b": 4, "c": 3}, {"x": 3, "y": 2})
    routes = {"a": ("x", "y"), "b": ("x", "y"), "c": ("x",), "d": ("y",)}
    assert batch.complete_tasks(routes) == {"a", "c"}
