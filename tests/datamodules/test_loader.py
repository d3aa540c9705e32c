"""Loaders count what was handed out, whatever the workers prepared ahead."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from torch.utils.data import Dataset

from datamodules.loader import EvaluationLoader, StepLoader
from tests.tiny import plan

both = pytest.mark.parametrize("workers", [0, 2])


class Numbers(Dataset):
    """Step k is k."""

    def __getitem__(self, step: int) -> int:
        return step


def loader(workers: int, position: int = 0) -> StepLoader:
    return StepLoader(Numbers(), plan({}, 6), position, num_workers=workers)  # type: ignore[arg-type]  # numbers stand for batches


@both
def test_epochs_go_on_from_each_other(workers: int) -> None:
    steps = loader(workers)
    assert [list(steps), list(steps)] == [list(range(6)), list(range(6, 12))]
    assert len(steps) == 6


@both
def test_position_counts_batches_handed_out(workers: int) -> None:
    steps = loader(workers)
    seen = []
    for step in islice(steps, 4):
        seen.append(step)
        assert steps.state_dict() == {"position": len(seen)}
    assert seen == [0, 1, 2, 3]


@both
def test_state_goes_on_with_the_next_step(workers: int) -> None:
    first, second = loader(workers), loader(workers)
    list(islice(first, 4))
    second.load_state_dict(first.state_dict())
    assert list(second) == [4, 5, 6, 7, 8, 9]


@both
def test_torch_random_numbers_are_left_alone(workers: int) -> None:
    before = torch.get_rng_state()
    list(loader(workers))
    assert torch.equal(before, torch.get_rng_state())


@both
def test_evaluation_starts_anew(workers: int) -> None:
    steps = EvaluationLoader(Numbers(), 3, num_workers=workers)  # type: ignore[arg-type]  # as above
    assert [list(steps), list(steps), len(steps)] == [[0, 1, 2], [0, 1, 2], 3]
