"""Every encoder gives features of the shapes that its row says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.rows.groups import rows
from tests.rows.row import Row, ids

KNOWN = {
    "encoder/audio": {"in_features": 64},
    "encoder/image": {"in_channels": 1},
    "encoder/text": {"vocab_size": 30},
}


def inputs(row: Row) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    if row.group != "encoder/text":
        return torch.rand(row.given, generator=generator)
    return torch.randint(1, 30, row.given, generator=generator)


def built(row: Row) -> Any:
    torch.manual_seed(0)
    return row.build(**KNOWN[row.group])


each = pytest.mark.parametrize("row", rows("encoder"), ids=ids)


@each
def test_row(row: Row) -> None:
    found = {k: tuple(v.shape) for k, v in vars(built(row)(inputs(row))).items() if v is not None}
    assert found == row.expected


@each
def test_no_rows_have_no_features(row: Row) -> None:
    """A process may get no row of a modality when there are more processes than rows."""
    encoder = built(row)
    pooled = encoder(inputs(row)[:0]).pooled
    assert pooled.shape == (0, encoder.dim)
    pooled.sum().backward()


@each
def test_rows_are_independent(row: Row) -> None:
    encoder, given = built(row).eval(), inputs(row)
    assert torch.allclose(encoder(given).pooled[:1], encoder(given[:1]).pooled, atol=1e-6)
