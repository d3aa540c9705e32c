"""Rows of methods that merge models."""

from __future__ import annotations

import math

from tests.rows.row import Row

# given: (the models, their start); expected: the result. A model is {name: entries}, of which w is
# the weight of a layer (out, in), and up and down the factors of an adapter beside it, which the
# result has in w, or in the name of each task; see tests.merging for the data that some methods
# look at
EYE = [[1, 0], [0, 1]]
FIRST = {"w": EYE, "down": [[1, 0]], "up": [[4], [0]]}  # adds diag(4, 0)
SECOND = {"w": EYE, "down": [[0, 1], [0, 1]], "up": [[0, 0], [1, 1]]}  # adds diag(0, 2)
MERGINGS = (
    Row(
        "method",
        "average",
        ([{"w": [1, 2]}, {"w": [5, 2]}], None),
        {"w": [2, 2]},
        {"weights": [3, 1]},
    ),
    Row("method", "uniform_soup", ([{"w": [1, 2]}, {"w": [5, 2]}], None), {"w": [3, 2]}),
    # scores are -|w - 2|: 2.5 is best alone, with 1 it is 1.75, with 9 it would be worse
    Row("method", "greedy_soup", ([{"w": [1]}, {"w": [2.5]}, {"w": [9]}], None), {"w": [1.75]}),
    # from 3 a step of half the way to 1 gives 2, where the score is best
    Row("method", "layerwise", ([{"w": [1]}, {"w": [5]}], None), {"w": [2]}),
    Row(  # a right angle: sin 45 of each, whatever their lengths
        "method",
        "slerp",
        ([{"w": [1, 0]}, {"w": [0, 2]}], None),
        {"w": [math.sqrt(0.5), 2 * math.sqrt(0.5)]},
    ),
    Row(
        "method",
        "task_arithmetic",
        ([{"w": [2, 1]}, {"w": [1, 3]}], {"w": [1, 1]}),
        {"w": [1.5, 0]},
        {"scale": 0.5, "weights": [1, -1]},
    ),
    Row(  # trimmed (4, 0, 0, 3) and (-2, -3, 0, 0); the signs of their sum are + - 0 +
        "method",
        "ties",
        ([{"w": [4, -1, 0.5, 3]}, {"w": [-2, -3, 1, 0]}], {"w": [0, 0, 0, 0]}),
        {"w": [4, -3, 0, 3]},
        {"keep": 0.5, "scale": 1.0},
    ),
    Row(
        "method",
        "dare",
        ([{"w": [2]}, {"w": [4]}], {"w": [1]}),
        {"w": [3]},
        {"drop": 0.0, "scale": 0.5},
    ),
    Row(  # the leading 2 e1 e1' and 3 e2 e2', which are orthogonal already
        "method",
        "tsv_m",
        ([{"w": [[3, 1], [1, 2]]}, {"w": [[2, 1], [1, 4]]}], {"w": [[1, 1], [1, 1]]}),
        {"w": [[3, 1], [1, 4]]},
        {"scale": 1.0},
    ),
    Row(  # the sum diag(6, 2) has singular values of 4 on average
        "method",
        "iso_c",
        ([{"w": [[5, 1], [1, 2]]}, {"w": [[3, 1], [1, 2]]}], {"w": [[1, 1], [1, 1]]}),
        {"w": [[3, 1], [1, 3]]},
        {"scale": 0.5},
    ),
    Row(
        "method",
        "adapter_concat",
        ([FIRST, SECOND], None),
        {"w": [[5, 0], [0, -1]]},
        {"weights": [1, -1]},
    ),
    Row(  # of diag(2, 1) the first
        "method",
        "svd",
        ([FIRST, SECOND], None),
        {"w": [[3, 0], [0, 1]]},
        {"rank": 1},
    ),
    Row(
        "method",
        "task_adapters",
        ([FIRST, SECOND], None),
        {"t0": [[5, 0], [0, 1]], "t1": [[1, 0], [0, 3]]},
    ),
    # (w x - y) x = 1 and 2 on rows (1, 0) and (1, 1): F = 1 and 4
    Row("method", "fisher", ([{"w": [1]}, {"w": [3]}], None), {"w": [2.6]}, {"normalize": False}),
    # G = 1 of either model's single row
    Row("method", "regmean", ([{"w": [1]}, {"w": [3]}], None), {"w": [2]}),
    Row(  # surer of class 0 the larger the coefficient: Adam's first step is lr
        "method",
        "adamerging",
        ([{"w": [[1], [-1]]}], {"w": [[0], [0]]}),
        {"w": [[0.31], [-0.31]]},
        {"steps": 1},
    ),
    Row(
        "method",
        "ensemble",
        ([{"w": [1]}, {"w": [2]}], None),
        {"members.0.w": [1], "members.1.w": [2]},
    ),
)
