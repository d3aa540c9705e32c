"""Which rows are for training, validation and test."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.splits import SPLITS, split_rows
from datamodules.table import SPLIT_COLUMN
from pollinate.errors import PollinateError

FRACTIONS = {"train": 0.6, "valid": 0.1, "test": 0.3}
strata = st.lists(st.sampled_from(["a", "b", None, 3]), min_size=1, max_size=80)


def deal(
    spec: dict[str, Any], columns: dict[str, Any], strata: list[Any], seed: int = 0
) -> dict[str, np.ndarray]:
    return split_rows(spec, columns, np.arange(len(strata)), strata, seed)


def all_rows(parts: dict[str, np.ndarray]) -> list[int]:
    return sorted(np.concatenate([parts[name] for name in SPLITS]).tolist())


@given(strata, st.integers(0, 2**32))
def test_splits_are_disjoint_and_complete(strata: list[Any], seed: int) -> None:
    parts = deal(FRACTIONS, {}, strata, seed)
    assert all_rows(parts) == list(range(len(strata)))
    assert all(list(rows) == sorted(rows) for rows in parts.values())


@given(strata)
def test_each_split_gets_its_share_of_every_label(strata: list[Any]) -> None:
    parts = deal(FRACTIONS, {}, strata)
    for label, count in Counter(map(str, strata)).items():
        for name, share in FRACTIONS.items():
            found = sum(str(strata[row]) == label for row in parts[name])
            assert abs(found - share * count) <= 1


@given(st.lists(st.integers(2, 6), min_size=1, max_size=40))
def test_rare_labels_cost_no_split_its_share(sizes: list[int]) -> None:
    strata = [f"label {label}" for label, size in enumerate(sizes) for _ in range(size)]
    parts = deal({"train": 0.8, "valid": 0.1, "test": 0.1}, {}, strata)
    for name, share in {"train": 0.8, "valid": 0.1, "test": 0.1}.items():
        assert abs(len(parts[name]) - share * len(strata)) <= 2
    assert {strata[row] for row in parts["train"]} == set(strata)


@pytest.mark.parametrize("count", [12, 100, 190])
@pytest.mark.parametrize("unit", ["", " EUR"])
def test_few_rows_of_distinct_values_are_shared_out(count: int, unit: str) -> None:
    parts = deal(FRACTIONS, {}, [f"{1.5 * row}{unit}" for row in range(count)])
    for name, share in FRACTIONS.items():
        assert abs(len(parts[name]) - share * count) <= 1


def test_a_lone_label_trains() -> None:
    parts = deal(FRACTIONS, {}, ["lone"] + ["a", "b"] * 20)
    assert 0 in parts["train"]


@pytest.mark.parametrize("odd", [float("inf"), "nan"])
def test_odd_numbers_are_shared_out_too(odd: Any) -> None:
    parts = deal(FRACTIONS, {}, [odd, "-inf", *map(str, range(18))])
    assert [len(parts[name]) for name in SPLITS] == [12, 2, 6]


def test_hand_values() -> None:
    parts = deal(FRACTIONS, {}, ["a"] * 10 + ["b"] * 20)
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 18, "valid": 3, "test": 9}


def test_same_seed_same_split() -> None:
    strata = ["a", "b"] * 30
    first, again, other = (deal(FRACTIONS, {}, strata, seed)["train"] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_column_names_the_splits() -> None:
    columns = {"part": ["train", "test", "valid", "train"]}
    parts = deal({"column": "part"}, columns, [""] * 4)
    assert {name: rows.tolist() for name, rows in parts.items()} == {
        "train": [0, 3],
        "valid": [2],
        "test": [1],
    }


def test_validation_rows_are_carved_from_training_rows() -> None:
    columns = {"part": ["train"] * 20 + ["test"] * 10}
    parts = deal({"column": "part", "valid": 0.1}, columns, ["a", "b"] * 15)
    assert all_rows(parts) == list(range(30))
    assert parts["test"].tolist() == list(range(20, 30))
    assert Counter(row % 2 for row in parts["valid"]) == {0: 1, 1: 1}  # one row of each label


def test_a_named_split_is_not_carved() -> None:
    columns = {"part": ["train"] * 8 + ["valid", "test"]}
    parts = deal({"column": "part", "valid": 0.5, "test": 0.5}, columns, [""] * 10)
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 8, "valid": 1, "test": 1}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["x"]}, "split column 'part' is not a column of the data; it has text"),
        ({"part": ["train", "later"]}, "must hold train, valid or test, found later; or say what"),
    ],
)
def test_wrong_columns_are_named(columns: dict[str, list[str]], message: str) -> None:
    with pytest.raises(PollinateError, match=message):
        deal({"column": "part"}, columns, [""] * 2)


def test_other_words_for_the_splits() -> None:
    parts = deal({"column": "part"}, {"part": ["Training", "dev", "validation", "eval"]}, [""] * 4)
    assert [parts[name].tolist() for name in SPLITS] == [[0], [1, 2], [3]]


def test_values_say_what_a_column_means() -> None:
    spec = {"column": "fold", "values": {"train": [0, 1], "valid": 2, "test": "3"}}
    parts = deal(spec, {"fold": np.array([3, 2, 1, 0])}, [""] * 4)
    assert [parts[name].tolist() for name in SPLITS] == [[2, 3], [1], [0]]


def test_files_say_the_split() -> None:
    parts = deal({"files": {}}, {SPLIT_COLUMN: ["test", "train", "valid"]}, [""] * 3)
    assert [parts[name].tolist() for name in SPLITS] == [[1], [2], [0]]


groups = st.lists(st.integers(0, 12), min_size=1, max_size=80)


@given(groups, st.integers(0, 9))
def test_no_group_straddles(groups: list[int], seed: int) -> None:
    spec, rows = {**FRACTIONS, "group": "who"}, np.arange(len(groups))
    parts = split_rows(spec, {"who": groups}, rows, None, seed)
    assert all_rows(parts) == list(range(len(groups)))
    owners = [{groups[row] for row in parts[name]} for name in SPLITS]
    assert sum(map(len, owners)) == len(set.union(*owners))


def test_groups_are_shared_out_by_rows_and_labels() -> None:
    who = [row // 3 for row in range(300)]
    strata = ["a" if group % 2 else "b" for group in who]
    parts = deal({**FRACTIONS, "group": "who"}, {"who": who}, strata)
    for name, share in FRACTIONS.items():
        for label in "ab":
            found = sum(strata[row] == label for row in parts[name])
            assert abs(found - share * 150) <= 3


def test_groups_of_rare_labels_cost_no_split_its_share() -> None:
    strata, who = [f"label {row // 4}" for row in range(200)], [row // 2 for row in range(200)]
    spec = {"train": 0.5, "valid": 0.25, "test": 0.25, "group": "who"}
    parts = deal(spec, {"who": who}, strata)
    assert [len(parts[name]) for name in SPLITS] == [100, 50, 50]
    assert {strata[row] for row in parts["train"]} == set(strata)


def test_stratify_by_another_column() -> None:
    columns = {"city": ["x"] * 10 + ["y"] * 10}
    parts = deal({**FRACTIONS, "stratify": "city"}, columns, ["a"] * 20)
    assert [sum(row < 10 for row in parts[name]) for name in SPLITS] == [6, 1, 3]


def test_stratify_by_every_combination_of_columns() -> None:
    columns = {"city": ["x", "y"] * 20, "size": ["s"] * 20 + ["l"] * 20}
    parts = deal({**FRACTIONS, "stratify": ["city", "size"]}, columns, ["a"] * 40)
    for name, count in zip(SPLITS, (6, 1, 3), strict=True):
        cells = Counter((columns["city"][row], columns["size"][row]) for row in parts[name])
        assert set(cells.values()) == {count}


def test_no_columns_stratify_by_nothing() -> None:
    labels = ["a"] * 10 + ["b"] * 10
    plain = deal({**FRACTIONS, "stratify": []}, {}, labels)["train"].tolist()
    assert plain == deal(FRACTIONS, {}, ["a"] * 20)["train"].tolist()
    assert plain != deal(FRACTIONS, {}, labels)["train"].tolist()


def test_many_numbers_are_stratified_by_quantile() -> None:
    parts = deal(FRACTIONS, {}, [str(number) for number in range(1000)])
    for low in range(0, 1000, 100):
        assert sum(low <= row < low + 100 for row in parts["test"]) == 30


def test_many_texts_are_not_stratified() -> None:
    parts = deal(FRACTIONS, {}, [f"t{number}" for number in range(1000)])
    assert [len(parts[name]) for name in SPLITS] == [600, 100, 300]


def test_only_the_given_rows_are_dealt_out() -> None:
    rows = np.arange(0, 40, 2)
    parts = split_rows(FRACTIONS, {}, rows, ["a"] * 40, 0)
    assert all_rows(parts) == rows.tolist()


def test_all_rows_may_train() -> None:
    parts = deal({"train": 1}, {}, ["a", None, "b"])
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 3, "valid": 0, "test": 0}
