"""What may answer together within limits of size and time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import pollinate as po
from lightning_modules.tasks.base import Task
from pipeline.run_folder import RunFolder
from pipeline.searching.library import Answers, read_answers
from pipeline.searching.outcome import Limits, select_within

TASKS: Mapping[str, Task] = {
    name: po.tasks.Classification("rows", name, classes=2) for name in ("mood", "tone")
}
TARGET = torch.arange(60) % 2
COSTS = {"big": (90, 9.0), "joint": (60, 6.0), "small": (10, 1.0)}


def right(share: float, seed: int) -> Tensor:
    """Logits that are right for a share of the rows."""
    hit = torch.rand(len(TARGET), generator=torch.Generator().manual_seed(seed)) < share
    return 3.0 * torch.nn.functional.one_hot(torch.where(hit, TARGET, 1 - TARGET), 2)


@pytest.fixture
def valid() -> dict[str, Answers]:
    """The best model of mood is big and has no other task; a small one can't tone either."""
    mood = {"big": right(1.0, 0), "joint": right(0.8, 1), "small": right(0.7, 2)}
    return {"mood": Answers(mood, TARGET), "tone": Answers({"joint": right(0.8, 3)}, TARGET)}


def found(valid: Mapping[str, Answers], **limits: Any) -> dict[str, list[str]]:
    limit = Limits({"max_parameters": None, "max_latency_ms": None, **limits})
    chosen = select_within(limit, COSTS if limit.any else {}, TASKS, valid, 0)
    return {task: sorted(one.weights) for task, one in chosen.items()}


def test_without_limits_the_best_answer(valid: dict[str, Answers]) -> None:
    assert found(valid) == {"mood": ["big"], "tone": ["joint"]}
    assert found(valid, max_parameters=150) == {"mood": ["big"], "tone": ["joint"]}


@pytest.mark.parametrize("limits", [{"max_parameters": 100}, {"max_latency_ms": 7.5}])
def test_the_first_task_leaves_a_place_for_the_next(
    valid: dict[str, Answers], limits: dict[str, Any]
) -> None:
    chosen = found(valid, **limits)  # big answers mood best, and then nothing may answer tone
    assert chosen["tone"] == ["joint"] and "joint" in chosen["mood"] and "big" not in chosen["mood"]


def test_what_nothing_keeps_is_answered_by_the_nearest(valid: dict[str, Answers]) -> None:
    assert found(valid, max_parameters=5) == {"mood": ["joint"], "tone": ["joint"]}  # 60, not 70


def test_tasks_without_labels_in_a_split_have_no_answers(tmp_path: Path) -> None:
    file = RunFolder(tmp_path).outputs("test")
    file.parent.mkdir(parents=True, exist_ok=True)
    none = {"output": torch.empty(0, 2), "target": torch.empty(0, dtype=torch.long)}
    torch.save({"mood": {"output": right(1.0, 0), "target": TARGET}, "tone": none}, file)
    assert list(read_answers({"joint": tmp_path}, "test", ["mood", "tone"])) == ["mood"]
