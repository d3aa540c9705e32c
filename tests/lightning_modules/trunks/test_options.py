"""Which parts of a module are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lightning_modules.trunks.base import called_parts
from lightning_modules.trunks.cgc import CGC
from lightning_modules.trunks.cross_stitch import CrossStitch
from lightning_modules.trunks.dselect_k import DSelectK
from lightning_modules.trunks.learning_to_branch import LearningToBranch
from lightning_modules.trunks.mmoe import MMoE
from lightning_modules.trunks.ple import PLE
from lightning_modules.trunks.sluice import Sluice
from lightning_modules.trunks.soft_sharing import SoftSharing
from lightning_modules.trunks.task_queries import TaskQueries
from pollinate.errors import UsageError
from tests.lightning_modules.trunks.equations import DIM, TASKS


def test_parts_are_found_in_lists_and_dicts() -> None:
    one, other = torch.nn.Linear(1, 1), torch.nn.Sequential(torch.nn.Linear(1, 1))
    net = torch.nn.Module()
    net.layers = torch.nn.ModuleList([torch.nn.ModuleDict({"a": one}), other])
    net.gates = torch.nn.ParameterDict({"a": torch.zeros(1)})
    assert list(called_parts(net)) == [one, other]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MMoE(TASKS, DIM, experts=0), "experts must be >= 1, got 0"),
        (lambda: CGC(TASKS, DIM, own=0), "own must be >= 1, got 0"),
        (lambda: PLE(TASKS, DIM, levels=1), "levels must be >= 2, got 1"),
        (lambda: DSelectK(TASKS, DIM, experts=1), "experts must be >= 2, got 1"),
        (lambda: DSelectK(TASKS, DIM, gamma=0.0), "gamma must be > 0, got 0.0"),
        (lambda: CrossStitch(TASKS, DIM, depth=0), "depth must be >= 1, got 0"),
        (lambda: CrossStitch(TASKS, DIM, own=1.5), r"own must be in \[0, 1\], got 1.5"),
        (lambda: Sluice(TASKS, DIM, orthogonality=-1.0), "orthogonality must be >= 0, got -1.0"),
        (lambda: SoftSharing(TASKS, DIM, strength=-1.0), "strength must be >= 0, got -1.0"),
        (lambda: DSelectK(TASKS, DIM, entropy=-1.0), "entropy must be >= 0, got -1.0"),
        (lambda: Sluice(TASKS, 3), "dim must be a multiple of 2, got 3"),
        (lambda: TaskQueries(TASKS, DIM, heads=3), "heads must divide dim = 4, got 3"),
        (lambda: LearningToBranch(TASKS, DIM, end=9.0), r"\(0, start = 5.0\], got 9.0"),
    ],
)
def test_options_out_of_range_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
