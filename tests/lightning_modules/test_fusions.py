"""Several modalities of a row become one vector."""

from __future__ import annotations

import pytest
import torch

from lightning_modules.features import Features
from lightning_modules.fusions.concat import Concat
from tests.rows import Row, ids, rows


@pytest.mark.parametrize("row", rows("fusion"), ids=ids)
def test_row(row: Row) -> None:
    fusion = row.build(modalities=tuple(row.given))
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.fill_(1.0 if parameter.dim() == 2 else 0.0)
    features = {name: Features(torch.tensor(rows)) for name, (rows, _) in row.given.items()}
    has = {name: torch.tensor(flags) for name, (_, flags) in row.given.items()}
    assert fusion(features, has).tolist() == row.expected


def test_an_absent_modality_has_its_own_vector_that_learns() -> None:
    fusion = Concat(("a", "b"), 2)
    features = {"a": Features(torch.randn(3, 2)), "b": Features(torch.randn(1, 2))}
    has = {"a": torch.tensor([True] * 3), "b": torch.tensor([False, True, False])}
    fusion(features, has).sum().backward()
    assert fusion.absent["b"].grad.abs().sum() > 0
    assert fusion.absent["a"].grad.abs().sum() == 0
