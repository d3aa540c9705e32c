"""Rows of schedules of the learning rate."""

from __future__ import annotations

from tests.rows.row import Row

# given: optimizer steps of the run; expected: factor on the learning rate at some of them
SCHEDULES = (
    Row("schedule", "constant", 10, {0: 0.5, 1: 1, 5: 1, 10: 1}, {"warmup": 1}),
    Row(
        "schedule",
        "linear",
        12,
        {0: 1 / 3, 1: 2 / 3, 2: 1, 7: 0.6, 12: 0.2},
        {"warmup": 2, "end": 0.2},
    ),
    Row(
        "schedule",
        "cosine",
        12,
        {0: 1 / 3, 1: 2 / 3, 2: 1, 7: 0.6, 12: 0.2},
        {"warmup": 2, "end": 0.2},
    ),
    Row(
        "schedule",
        "one_cycle",
        10,
        {0: 0.2, 2: 0.6, 4: 1, 7: 0.55, 10: 0.1},
        {"rise": 0.4, "start": 0.2, "end": 0.1},
    ),
)
