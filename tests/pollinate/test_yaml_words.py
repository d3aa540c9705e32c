"""What YAML read as something else is understood by the data, or refused with what to write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from datamodules.splits import split_rows
from lightning_modules.tasks.classification import Classification
from lightning_modules.tasks.multilabel import Multilabel
from lightning_modules.tasks.ordinal import Ordinal
from lightning_modules.tasks.row_weights import class_weights
from pipeline.configuration.composition import compose
from pollinate.errors import PollinateError, UsageError
from pollinate.yaml_words import may_mean, meant_word, quotes_hint
from tests.shops import data


@pytest.mark.parametrize(
    ("written", "word"),
    [
        *(("no", word) for word in ("no", "No", "off", "false", "False", "FALSE")),
        *(("yes", word) for word in ("yes", "on", "true", "True")),
        ("null", "null"),
        ("0", "0.0"),
        ("1", "1.000"),
        ("1.0", "1"),
        ("1e3", "1000"),
        ("abc", "abc"),
    ],
)
def test_a_word_of_the_data_is_meant(written: str, word: str) -> None:
    assert may_mean(yaml.safe_load(written), word)


def test_other_words_are_not_meant() -> None:
    assert not any(may_mean(*pair) for pair in ((False, "yes"), (False, "0"), (1, "2"), (1, "a")))
    assert meant_word(False, ["no", "off"]) == "False"  # either
    assert meant_word(False, ["no", "False"]) == "False"


def test_what_to_write() -> None:
    assert quotes_hint(["a", False]) == '; YAML reads no as false: write ["a", "no"]'
    assert quotes_hint([None, -1]) == '; YAML reads null as nothing: write ["null", "-1"]'
    assert quotes_hint(True) == '; YAML reads yes as true: write "yes" in quotes'
    assert quotes_hint(1.5) == '; write "1.5" in quotes'
    assert quotes_hint({"a": "b"}) == ""


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["0.0", "1.0", "2.0"] * 2, {"train": [0, 1], "test": 2}),
        ([0.0, 1.0, 2.0] * 2, {"train": ["0", "1"], "test": "2"}),
        (["false", "false", "true"] * 2, {"train": False, "test": True}),
        (["no", "No ", "YES"] * 2, {"train": False, "test": True}),
        ([False, False, True] * 2, {"train": False, "test": True}),
    ],
)
def test_a_split_column_is_read_as_it_is_meant(cells: list[Any], values: dict[str, Any]) -> None:
    found = split_rows({"column": "fold", "values": values}, {"fold": cells}, np.arange(6), None, 0)
    assert found["train"].tolist() == [0, 1, 3, 4] and found["test"].tolist() == [2, 5]


def test_a_word_of_two_splits_is_refused() -> None:
    values = {"train": [1], "test": [1.0]}
    with pytest.raises(PollinateError, match=r"must hold 1, 1.0, found 1.00"):
        split_rows({"column": "f", "values": values}, {"f": ["1.00"]}, np.arange(1), None, 0)


def test_class_weights_name_the_classes_that_are_there() -> None:
    given = class_weights({False: 3, True: 1}, ["no", "yes"], [1, 1])  # type: ignore[dict-item]  # as YAML reads them
    assert given is not None and torch.allclose(given, torch.tensor([1.5, 0.5]))
    plain = class_weights({1.0: 3}, ["1", "2"], [1, 1])  # type: ignore[dict-item]
    assert plain is not None and plain.tolist() == [1.5, 0.5]


@pytest.mark.parametrize("kind", [Classification, Multilabel, Ordinal])
def test_classes_that_yaml_read_otherwise_are_refused(kind: Any) -> None:
    said = r'got \[false, true\]; YAML reads no as false: write \["no", "yes"\]; .* "False" and'
    with pytest.raises(UsageError, match=said):
        kind("shop", "label", classes=[False, True])
    assert kind("shop", "label", classes=["no", "yes"]).classes == ["no", "yes"]


@pytest.mark.parametrize(
    "words", [("True", "False"), ("yes", "no"), ("1", "0"), (1.0, 0), ("t", "f")]
)
def test_columns_of_truth_values(words: tuple[Any, Any]) -> None:
    yes, no = words
    cells = [{"new": yes, "sale": no}, {"new": no, "sale": no}, {"new": None, "sale": None}]
    task = Multilabel("shop", ["new", "sale"])
    assert task.problems(cells, {}) == {}
    assert [task.labels(cell) for cell in cells] == [["new"], [], None]


def test_lists_of_truth_values_are_no_labels() -> None:
    wrong = Multilabel().problems([[True, False], ["True", "False", "True"], ["a", "b"]], {})
    assert list(wrong) == [0, 1]
    assert (
        "must be 0 or 1, or true or false, got 'maybe'"
        in Multilabel().problems([{"new": "maybe", "sale": 1}], {})[0]
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"tasks": {"kind": {"type": "multilabel", "target": "label", "none": False}}},
            '"no" in q',
        ),
        ({"empty": [None, -1]}, 'YAML reads null as nothing: write ["null", "-1"]'),
        ({"empty": [-1]}, 'got [-1]; write ["-1"]'),
        ({"inputs": {"text": False}}, 'write "no" in quotes'),
        ({"split": {"column": True}}, 'write "yes" in quotes'),
        ({"tasks": {"kind": {"type": "classification", "target": 1}}}, 'write "1" in quotes'),
        ({"tasks": {False: {"type": "classification", "target": "a"}}}, 'write "no" in quotes'),
    ],
)
def test_a_configuration_says_what_to_write(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    for task in change.get("tasks", {}).values():
        task["dataset"] = "shop"
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(data(**change)))
    with pytest.raises(UsageError) as caught:
        compose("inspect", [f"data={tmp_path / 'shop.yaml'}"])
    assert said in str(caught.value)
