"""Labels that look alike are named, in fit and in inspect; others aren't."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from datamodules.dataset import Dataset
from datamodules.lookalikes import lookalikes
from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.tasks.classification import Classification
from pipeline.configuration.composition import compose
from pipeline.inspection.inspection_run import inspect_data
from pollinate.errors import PollinateError
from tests.shops import data, write

ALIKE = [
    ("1", "1.0"),
    ("1", "01"),
    ("1000", "1e3"),
    ("caf\u00e9", "cafe\u0301"),
    ("a", "a\u200b"),
    ("a", "\ufeffa"),
    ("soft", "so\u00adft"),
    ("Yes", "yes"),
    ("big tea", "big  tea"),
    ("big tea", "big\u00a0tea"),
    ("A1", "\uff211"),
    ("a", "\u0430"),
    ("don't", "don\u2019t"),
    ("a-b", "a\u2013b"),
]


@pytest.mark.parametrize("pair", ALIKE, ids=ascii)
def test_what_looks_alike(pair: tuple[str, str]) -> None:
    assert lookalikes([*pair, "other"]) == [sorted(pair)]


def test_what_does_not_look_alike() -> None:
    labels = ["1", "2", "1.5", "nan", "a", "b", "\u00e9", "e", "", "-", "9007199254740993"]
    assert lookalikes([*labels, "9007199254740992", "1_0", "10"]) == []


def table(*labels: str) -> pd.DataFrame:
    rows = [(f"text {n}", label) for n, label in enumerate(labels * 10)]
    return pd.DataFrame(rows, columns=["text", "label"])


def test_a_note_of_the_data_module_names_them_over_all_data_sets() -> None:
    splits = {"train": 0.6, "valid": 0.2, "test": 0.2}
    sets = {
        name: Dataset(frame, inputs={"text": "text"}, split=splits)
        for name, frame in (("a", table("1", "2")), ("b", table("1.0", "2.0")))
    }
    module = MixedDataModule(sets, {"kind": Classification(("a", "b"), "label")})
    module.setup()
    assert any("of kind look alike and are different classes: '1' and '1.0'; '2' and '2.0'" in note
               for note in module.notes)  # fmt: skip


def test_an_unseen_label_that_looks_like_a_class_is_told() -> None:
    shop = Dataset(table("a", "b"), valid=table("a", "a\u200b"), inputs={"text": "text"})
    module = MixedDataModule({"shop": shop}, {"kind": Classification("shop", "label")})
    with pytest.raises(PollinateError, match=r"'a\\u200b' looks like 'a'; add training rows"):
        module.setup()


def test_inspect_names_json_numbers_beside_texts(tmp_path: Path) -> None:
    values = ["1.0", '"1"', "2.0", '"2"']
    lines = [f'{{"text": "t {n}", "label": {values[n % 4]}}}' for n in range(60)]
    spec = yaml.safe_dump(data("json"))
    write(tmp_path, {"shop.jsonl": "\n".join(lines), "shop.yaml": spec})
    arguments = [f"data={tmp_path / 'shop.yaml'}", f"data.cache={tmp_path / 'cache'}"]
    found = inspect_data(compose("inspect", [*arguments, "tracking=none"]))
    (problem,) = [one for one in found.problems if "look alike" in one.what]
    assert (problem.severity, problem.where, problem.count) == ("warning", "kind", 2)
    assert problem.places[0] == "'1' (15) and '1.0' (15)"
