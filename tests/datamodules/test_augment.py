"""Random transforms of images, each with random numbers of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datamodules.augment import transform_rows
from tests.rows.groups import rows
from tests.rows.row import Row, ids

NONE = np.zeros(5, np.int64)
each = pytest.mark.parametrize("row", rows("augment"), ids=ids)


def images(row: Row) -> torch.Tensor:
    return torch.randint(
        256, row.given, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@each
def test_row(row: Row) -> None:
    given, transform = images(row), row.build()
    found = [
        transform_rows(given, transform, 0, NONE + number, np.arange(5)) for number in range(8)
    ]
    assert all(one.shape == given.shape and one.dtype == torch.uint8 for one in found)
    changed = torch.stack([(one != given).flatten(1).any(dim=1) for one in found])
    assert changed.all() if row.expected else changed.any()


@each
def test_an_image_s_transform_depends_on_seed_pass_and_row_alone(row: Row) -> None:
    given, transform = images(row), row.build()
    together = transform_rows(given, transform, 3, NONE, np.arange(5))
    for number in range(5):
        own = slice(number, number + 1)
        alone = transform_rows(given[own], transform, 3, NONE[own], np.arange(5)[own])
        assert torch.equal(alone[0], together[number])


@each
def test_the_run_s_random_numbers_are_left_alone(row: Row) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    transform_rows(images(row), row.build(), 0, NONE, np.arange(5))
    assert torch.equal(torch.get_rng_state(), before)
