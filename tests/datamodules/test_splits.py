"""Which rows are for training, validation and test."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.splits import SPLITS, split_rows
from pipeline.errors import PollinateError

FRACTIONS = {"train": 0.6, "valid": 0.1, "test": 0.3}
strata = st.lists(st.sampled_from(["a", "b", None, 3]), min_size=1, max_size=80)


def all_rows(parts: dict[str, np.ndarray]) -> list[int]:
    return sorted(np.concatenate([parts[name] for name in SPLITS]).tolist())


@given(strata, st.integers(0, 2**32))
def test_splits_are_disjoint_and_complete(strata: list[Any], seed: int) -> None:
    parts = split_rows(FRACTIONS, {}, strata, seed)
    assert all_rows(parts) == list(range(len(strata)))
    assert all(list(rows) == sorted(rows) for rows in parts.values())


@given(strata)
def test_each_split_gets_its_share_of_every_label(strata: list[Any]) -> None:
    parts = split_rows(FRACTIONS, {}, strata, seed=0)
    for label, count in Counter(map(str, strata)).items():
        for name, share in FRACTIONS.items():
            found = sum(str(strata[row]) == label for row in parts[name])
            assert abs(found - share * count) <= 1


def test_hand_values() -> None:
    parts = split_rows(FRACTIONS, {}, ["a"] * 10 + ["b"] * 20, seed=0)
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 18, "valid": 3, "test": 9}


def test_same_seed_same_split() -> None:
    strata = ["a", "b"] * 30
    first, again, other = (split_rows(FRACTIONS, {}, strata, seed)["train"] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_column_names_the_splits() -> None:
    columns = {"part": ["train", "test", "valid", "train"]}
    parts = split_rows({"column": "part"}, columns, [""] * 4, seed=0)
    assert {name: rows.tolist() for name, rows in parts.items()} == {
        "train": [0, 3],
        "valid": [2],
        "test": [1],
    }


def test_validation_rows_are_carved_from_training_rows() -> None:
    columns = {"part": ["train"] * 20 + ["test"] * 10}
    parts = split_rows({"column": "part", "valid": 0.1}, columns, ["a", "b"] * 15, seed=0)
    assert all_rows(parts) == list(range(30))
    assert parts["test"].tolist() == list(range(20, 30))
    assert Counter(row % 2 for row in parts["valid"]) == {0: 1, 1: 1}  # one row of each label


def test_a_named_split_is_not_carved() -> None:
    columns = {"part": ["train"] * 8 + ["valid", "test"]}
    parts = split_rows({"column": "part", "valid": 0.5, "test": 0.5}, columns, [""] * 10, seed=0)
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 8, "valid": 1, "test": 1}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["x"]}, "split column 'part' is not a column of the data; it has text"),
        ({"part": ["train", "dev"]}, "must hold train, valid or test, found dev"),
    ],
)
def test_wrong_columns_are_named(columns: dict[str, list[str]], message: str) -> None:
    with pytest.raises(PollinateError, match=message):
        split_rows({"column": "part"}, columns, [""] * 2, seed=0)
