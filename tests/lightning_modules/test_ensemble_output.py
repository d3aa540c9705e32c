"""What several models of a task say together."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_modules.tasks.retrieval import Retrieval
from tests.rows.groups import rows
from tests.rows.row import Row, ids

SHAPES = {
    "regression": (5,),
    "tagging": (5, 4, 3),
    "retrieval": (5, 2, 8),
    "segmentation": (5, 3, 2, 2),
    "depth": (5, 1, 2, 2),
}


@pytest.mark.parametrize("row", rows("task"), ids=ids)
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_twice_the_weight_is_a_model_twice(row: Row, kind: torch.dtype) -> None:
    task = row.build()
    draws = torch.Generator().manual_seed(0)
    a, b = 3 * torch.randn(2, *SHAPES.get(row.option, (5, 3)), generator=draws).to(kind)

    def together(outputs: list[Tensor], weights: list[float] | None = None) -> Tensor:
        shares = None if weights is None else torch.tensor(weights)
        found: Tensor = task.ensemble_output(torch.stack(outputs), shares).float()
        return found[:, 0] @ found[:, 1].T if isinstance(task, Retrieval) else found

    close = {"rtol": 0.03, "atol": 0.03} if kind == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(together([a, b], [2 / 3, 1 / 3]), together([a, a, b]), **close)
    torch.testing.assert_close(together([a, b], [0.5, 0.5]), together([a, b]), **close)
    torch.testing.assert_close(together([a, b], [1.0, 0.0]), together([a]), **close)
