"""Rows of samplers."""

from __future__ import annotations

from tests.rows.row import Row

# given: training rows of each data set; expected: rows of each in a step of 10
SAMPLERS = (
    Row("sampler", "proportional", {"a": 10, "b": 70}, {"a": 2, "b": 8}, {"batch_size": 10}),
    Row(
        "sampler",
        "temperature",
        {"a": 10, "b": 90},
        {"a": 3, "b": 7},
        {"batch_size": 10, "temperature": 2.0},
    ),
    Row("sampler", "uniform", {"a": 10, "b": 70}, {"a": 5, "b": 5}, {"batch_size": 10}),
    Row(
        "sampler",
        "fixed",
        {"a": 10, "b": 70},
        {"a": 7, "b": 3},  # one row each, and 8 rows as 3 : 1
        {"batch_size": 10, "weights": {"a": 3.0}},
    ),
    Row("sampler", "annealed", {"a": 10, "b": 70}, {"a": 2, "b": 8}, {"batch_size": 10}),
    Row(
        "sampler",
        "adaptive",
        {"a": 10, "b": 90},
        {"a": 3, "b": 7},
        {"batch_size": 10, "temperature": 2.0},
    ),
)
