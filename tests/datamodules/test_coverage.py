"""Whether tasks have their labels on the same rows."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from datamodules.coverage import labelled_together


def together(**masks: str) -> bool:
    """Ask for tasks on two data sets of three rows each; a 1 is a label."""
    specs = {task: SimpleNamespace(datasets=["one", "two"]) for task in masks}
    rows = {task: torch.tensor([mark == "1" for mark in marks]) for task, marks in masks.items()}
    parts = {
        name: SimpleNamespace(present={task: mask[part] for task, mask in rows.items()})
        for name, part in (("one", slice(3)), ("two", slice(3, 6)))
    }
    return labelled_together(specs, parts)  # type: ignore[arg-type]  # what is read of them


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
