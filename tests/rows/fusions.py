"""Rows of fusions of modalities."""

from __future__ import annotations

import math

from tests.rows.row import Row
from tests.rows.tasks import SHOP_TASK

# given: each modality's vectors and who has them; expected: the fused rows, W summing both
FUSIONS = (
    Row(
        "fusion",
        "concat",
        {"a": ([[1.0], [2.0]], [True, True]), "b": ([[10.0]], [False, True])},
        [[1.0], [12.0]],
        {"dim": 1},
        (SHOP_TASK,),
    ),
    Row(  # all gates are 1/2
        "fusion",
        "gated",
        {"a": ([[1.0], [2.0]], [True, True]), "b": ([[10.0]], [False, True])},
        [[math.tanh(1) / 2], [(math.tanh(2) + 1) / 2]],
        {"dim": 1},
        (SHOP_TASK, "fusion=gated"),
    ),
    Row(  # the norm of a single number is 0: nothing is added to the mean
        "fusion",
        "attention",
        {"a": ([[1.0], [2.0]], [True, True]), "b": ([[10.0]], [False, True])},
        [[0.5], [6.0]],
        {"dim": 1, "heads": 1},
        (SHOP_TASK, "fusion=attention"),
    ),
)
