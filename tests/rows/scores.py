"""Rows of scores of transferability."""

from __future__ import annotations

import math

from tests.rows.row import Row

# given: evidence; expected: the score
SCORES = (
    Row(  # features that say nothing: y ~ N(0, 1), log N(1 | 0, 1)
        "score",
        "log_me",
        {"features": [[0.0], [0.0]], "labels": [[1.0], [-1.0]]},
        -(1 + math.log(2 * math.pi)) / 2,
    ),
    Row(  # S = S_z = 1, so S_a = 1
        "score",
        "h_score",
        {"features": [[-1.0], [-1.0], [1.0], [1.0]], "classes": [0, 0, 1, 1]},
        0.5,
        {"shrinkage": 0.5},
    ),
    Row(  # P(y | z): (2/3, 0) and (1/3, 1), so both rows have 2/3
        "score",
        "leep",
        {"probabilities": [[1.0, 0.0], [0.5, 0.5]], "classes": [0, 1]},
        math.log(2 / 3),
    ),
    Row(  # the features are the labels, in another unit
        "score",
        "cka",
        {
            "features": [[3.0, 0.0], [0.0, 3.0], [3.0, 0.0], [0.0, 3.0], [3.0, 0.0]],
            "reference": [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]],
        },
        1.0,
    ),
    Row("score", "tag", {"affinity": [0.1, 0.3]}, 0.2),
    Row("score", "gradient_cosine", {"cosine": [-1.0, 0.5]}, -0.25),
    Row("score", "size_parameters", {"parameters": 12}, 12.0),
    Row("score", "size_rows", {"rows": 3}, 3.0),
)
