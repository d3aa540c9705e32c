"""The limit of the largest entries, found without holding all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from lightning_modules.merging.largest import limits


def halves(vectors: list[Tensor]) -> Iterator[tuple[int, Tensor]]:
    """Yield each vector in two parts, in turns."""
    for part in (0, 1):
        for which, vector in enumerate(vectors):
            yield which, vector.tensor_split(2)[part]


@pytest.mark.parametrize("keep", [1e-4, 0.2, 0.5, 1.0])
def test_as_by_sorting_everything(keep: float) -> None:
    """Sizes of several magnitudes, many equal ones, and zeros."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.randn(5001, generator=generator).abs() * 10.0 ** torch.randint(
        -30, 30, (5001,), generator=generator
    )
    equal = torch.randint(0, 3, (400,), generator=generator).float()
    vectors = [spread, equal, torch.zeros(7), torch.ones(1)]
    expected = [
        vector.sort(descending=True).values[math.ceil(keep * len(vector)) - 1].item()
        for vector in vectors
    ]
    assert limits(lambda: halves(vectors), len(vectors), keep) == expected


def test_a_vector_without_entries_has_the_limit_zero() -> None:
    """A model that shares no tensor with the start."""
    assert limits(lambda: halves([torch.tensor([3.0, 1.0])]), 2, 0.5) == [3.0, 0.0]
