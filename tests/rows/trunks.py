"""Rows of trunks."""

from __future__ import annotations

from tests.rows.row import Row

NORMED = [[-1.0, 1.0], [1.0, -1.0]]
SQUARE = [[1.0, 3.0], [9.0, 5.0]]

# given: pooled features of a data set; expected: a task's representation of them. All linear layers
# are 0: blocks add nothing, gates and masks are even, and the norms at the end are what is left
TRUNKS = (
    Row("trunk", "shared", SQUARE, NORMED, {"dim": 2}),
    Row("trunk", "cross_stitch", SQUARE, NORMED, {"dim": 2, "own": 0.5}),
    Row("trunk", "sluice", SQUARE, NORMED, {"dim": 2}),
    Row("trunk", "mtan", SQUARE, NORMED, {"dim": 2}),
    Row("trunk", "mmoe", SQUARE, NORMED, {"dim": 2}),
    Row("trunk", "cgc", SQUARE, NORMED, {"dim": 2}),
    Row("trunk", "ple", SQUARE, NORMED, {"dim": 2}),
    Row(  # codes of two bits, 1/4 each: the fourth is of no expert
        "trunk",
        "dselect_k",
        SQUARE,
        [[-0.75, 0.75], [0.75, -0.75]],
        {"dim": 2, "experts": 3},
    ),
    Row("trunk", "learning_to_branch", SQUARE, NORMED, {"dim": 2}),
    Row("trunk", "film", SQUARE, NORMED, {"dim": 2}),
    Row("trunk", "task_queries", SQUARE, NORMED, {"dim": 2, "heads": 2}),
    Row("trunk", "soft_sharing", SQUARE, NORMED, {"dim": 2}),
)
