"""Runs of other tasks on the same data have the same rows in each split."""

from __future__ import annotations

import random
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pollinate as po
from datamodules.mixed_datamodule import MixedDataModule
from datamodules.splits import split_rows
from lightning_modules.building import build_tasks
from pipeline.build import build_datamodule
from pipeline.configuration.composition import compose
from pipeline.configuration.data_rules import reads_maps
from pipeline.merging.compatibility import dataset_mismatches
from pipeline.merging.parents import Parent, WeightsFile
from pipeline.studies.arms import arms_of
from pipeline.studies.overrides import combined
from pipeline.studies.plan import TaskFacts
from pollinate.errors import PollinateError
from tests.pipeline.studies.plans import facts, node
from tests.shops import composed, data, loaded, set_up, write

COUNT = 120
KIND: dict[str, Any] = {"dataset": "shop", "type": "classification", "target": "kind"}
MOOD: dict[str, Any] = {"dataset": "shop", "type": "classification", "target": "mood"}
PRICE: dict[str, Any] = {"dataset": "shop", "type": "regression", "target": "price"}


def table(**cells: str) -> str:
    """Rows with a kind, a mood and a price that have nothing to do with each other.

    Args:
        cells: {column: what stands in every tenth row}.
    """
    draw = random.Random(0)
    lines = ["text,kind,mood,price,new,cheap"]
    for row in range(COUNT):
        own = {
            "text": f"text no {row}",
            "kind": draw.choice("abc"),
            "mood": draw.choice("xy"),
            "price": str(draw.randrange(1000)),
            "new": draw.choice("01"),
            "cheap": draw.choice("01"),
        }
        lines.append(",".join((own | (cells if row % 10 == 0 else {})).values()))
    return "\n".join(lines) + "\n"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    write(tmp_path, {"shop.csv": table(), "other.csv": table()})
    return tmp_path


def rows(module: MixedDataModule, dataset: str = "shop") -> dict[str, list[int]]:
    return {split: part[dataset].rows.tolist() for split, part in module.parts.items()}


# the file is written with its tasks in the alphabet's order
TASKS = {
    "one column": {"kind": KIND, "mood": MOOD},
    "numbers": {"cost": PRICE, "mood": MOOD},
    "several columns": {
        "both": {"dataset": "shop", "type": "multilabel", "target": ["new", "cheap"]},
        "mood": MOOD,
    },
    "a column for each data set": {"kind": {**KIND, "target": {"shop": "kind"}}, "mood": MOOD},
}


@pytest.mark.parametrize("tasks", TASKS.values(), ids=TASKS)
def test_a_task_alone_has_the_rows_of_all_together(shop: Path, tasks: dict[str, Any]) -> None:
    spec = data(tasks=tasks)
    together, alone = loaded(shop, spec), loaded(shop, spec, "tasks=[mood]")
    assert rows(alone) == rows(together)
    first = data(tasks={"mood": MOOD})
    assert rows(loaded(shop, first)) != rows(together), "the first task decides nothing here"


def test_shares_of_the_training_rows_are_drawn_alike(shop: Path) -> None:
    write(shop, {"test.csv": table()})
    files = {"train": str(shop / "shop.csv"), "test": str(shop / "test.csv")}
    spec = data(split={"files": files, "valid": 0.2}, tasks=TASKS["one column"])
    assert rows(loaded(shop, spec, "tasks=[mood]")) == rows(loaded(shop, spec))


def test_labels_that_only_another_task_cannot_use_move_no_other_row(tmp_path: Path) -> None:
    write(tmp_path, {"shop.csv": table(price="much")})
    spec = data(tasks={"kind": KIND, "price": PRICE, "mood": MOOD}, on_bad_row="skip")
    together, alone = rows(loaded(tmp_path, spec)), rows(loaded(tmp_path, spec, "tasks=[mood]"))
    assert sum(map(len, alone.values())) == COUNT
    for split, own in alone.items():
        assert together[split] == [row for row in own if row % 10], "those without a price"


def test_a_data_set_without_labels_is_drawn_as_with_the_task_that_has_them(shop: Path) -> None:
    spec = data(tasks={"kind": {**KIND, "dataset": "other", "unlabelled": "shop"}, "mood": MOOD})
    spec["datasets"]["other"] = {**spec["datasets"]["shop"], "path": "other.csv"}
    together, alone = loaded(shop, spec), loaded(shop, spec, "tasks=[kind]")
    for name in ("shop", "other"):
        assert rows(alone, name) == rows(together, name)


def test_the_arms_of_a_study_have_the_same_rows_and_labels(shop: Path) -> None:
    own = TaskFacts(["shop"], ["text"], "accuracy", True)
    known = facts(("kind", "mood"), rows={"shop": 16}, evaluated={"shop": 60})
    known.tasks.update(dict.fromkeys(known.tasks, own))
    arms = arms_of(node(label_fractions=[0.5]), known)
    base = ["tracking=none", "sampler=temperature"]
    modules = {
        name: loaded(shop, data(tasks=TASKS["one column"]), *combined(base, arm.overrides))
        for name, arm in arms.items()
    }
    assert {"multi_task", "single_task:kind", "single_task:mood@0.5"} <= modules.keys()
    assert all(rows(module) == rows(modules["multi_task"]) for module in modules.values())
    few, all_few = (modules[f"{name}@0.5"] for name in ("single_task:mood", "multi_task"))
    seen, all_seen = (one.parts["train"]["shop"].present["mood"] for one in (few, all_few))
    assert (seen == all_seen).all()
    assert not seen.all()


def split_of(folder: Path, tasks: dict[str, Any], *overrides: str, **options: Any) -> Any:
    config = composed(folder, data(tasks=tasks, **options), *overrides)
    return config["data"]["datasets"]["shop"]["split"].get("stratify")


def test_a_run_says_by_what_it_is_stratified(shop: Path) -> None:
    pairs = {"dataset": "shop", "type": "retrieval", "modalities": ["text", "image"]}
    mask = {"dataset": "shop", "type": "segmentation", "target": "mask"}
    both = {"text": "text", "image": "photo"}
    assert split_of(shop, {"kind": KIND, "mood": MOOD}, "tasks=[mood]") == "kind"
    chosen = {"train": 0.5, "valid": 0.25, "test": 0.25, "stratify": "price"}
    assert split_of(shop, {"kind": KIND, "mood": MOOD}, "tasks=[mood]", split=chosen) == "price"
    tasks = {"a_pairs": pairs, "mask": mask, "mood": MOOD}
    assert split_of(shop, tasks, "tasks=[mask]", inputs=both) == "mood"
    tasks.pop("mood")
    assert split_of(shop, tasks, "tasks=[mask]", inputs=both) == []
    assert split_of(shop, {"pairs": pairs}, inputs=both) is None  # whole pairs are dealt out evenly
    assert split_of(shop, {"kind": KIND}, split={"column": "mood"}) is None  # nothing is drawn
    found = compose("inspect", [f"data={shop / 'shop.yaml'}"])["data"]["datasets"]["shop"]
    assert "stratify" not in found["split"]


def test_a_type_of_task_declares_that_it_reads_maps() -> None:
    config = compose("fit", ["data=tests/data/tasks.yaml"])
    declared = {n: reads_maps(t["type"]["_target_"]) for n, t in config["data"]["tasks"].items()}
    assert declared == {name: task.maps is not None for name, task in build_tasks(config).items()}
    assert set(declared.values()) == {True, False}


def test_a_column_that_is_missing_is_named(shop: Path) -> None:
    spec = data(tasks={"kind": {**KIND, "target": "knd"}, "mood": MOOD})
    with pytest.raises(PollinateError, match=r"shop: split.stratify names the column 'knd', which"):
        loaded(shop, spec, "tasks=[mood]")


# runs of before: their configuration doesn't say by what, and they don't know what was dealt out


def unmarked(config: dict[str, Any]) -> dict[str, Any]:
    old = deepcopy(config)
    del old["data"]["datasets"]["shop"]["split"]["stratify"]
    return old


def test_an_old_run_goes_on_with_its_own_rows(tmp_path: Path) -> None:
    write(tmp_path, {"shop.csv": table(price="much")})
    tasks = {"kind": KIND, "price": PRICE}
    new = composed(tmp_path, data(tasks=tasks, on_bad_row="skip"), "tasks=[price]")
    old = unmarked(new)
    learnt = set_up(old).learnt_state()
    assert learnt.pop("rows").keys() == {"shop"}
    going_on = build_datamodule(old, learnt)
    going_on.setup()
    frame = pd.read_csv(tmp_path / "shop.csv", dtype=str)
    good = np.flatnonzero(frame["price"] != "much")
    split = old["data"]["datasets"]["shop"]["split"]
    expected = split_rows(split, {}, good, frame["price"].tolist(), old["data"]["seed"])
    assert rows(going_on) == {name: own.tolist() for name, own in expected.items()}
    assert going_on.learnt_state()["rows"] == {}, "what it writes must not count as a new run's"
    assert rows(set_up(new)) != rows(going_on)


def test_a_run_goes_on_with_its_rows_or_not_at_all(shop: Path) -> None:
    config = composed(shop, data(tasks=TASKS["one column"]), "tasks=[mood]")
    first = set_up(config)
    again = build_datamodule(config, first.learnt_state())
    again.setup()
    assert rows(again) == rows(first)
    with pytest.raises(PollinateError, match="the rows of shop are drawn otherwise than when"):
        build_datamodule(unmarked(config), first.learnt_state()).setup()


def parent(label: str, config: dict[str, Any], learnt: dict[str, Any]) -> Parent:
    weights = WeightsFile(Path(label), {"state_dict": {}})
    return Parent(label, Path(label), None, "", {"config": config, "learnt": learnt}, weights)


def test_models_whose_rows_differ_are_not_merged(shop: Path) -> None:
    configs = {
        name: composed(shop, data(tasks=TASKS["one column"]), f"tasks=[{name}]")
        for name in ("kind", "mood")
    }
    learnt = {name: set_up(config).learnt_state() for name, config in configs.items()}
    parents = [parent(name, configs[name], learnt[name]) for name in configs]
    assert list(dataset_mismatches(parents)) == []
    old = parent("old", unmarked(configs["mood"]), {**learnt["mood"], "rows": {}})
    (found,) = dataset_mismatches([parents[0], old])
    assert found.startswith('data.datasets.shop.split.stratify is "kind" in kind, null in old')
    other = {**learnt["mood"], "rows": {"shop": "another"}}
    (found,) = dataset_mismatches([parents[0], parent("other", configs["mood"], other)])
    assert found.startswith("data.datasets.shop.rows is ")


# in Python


@pytest.mark.parametrize("stratify", ["kind", ["kind", "mood"], []])
def test_in_python_a_data_set_says_it(shop: Path, stratify: Any) -> None:
    frame = pd.read_csv(shop / "shop.csv")
    split = {"train": 0.5, "valid": 0.25, "test": 0.25, "stratify": stratify}
    found = []
    for names in (["kind", "mood"], ["mood"]):
        tasks = {name: po.tasks.Classification("shop", target=name) for name in names}
        own = po.Dataset(frame, inputs={"text": "text"}, split=split)
        module = po.MixedDataModule({"shop": own}, tasks)
        module.setup()
        found.append(rows(module))
    assert found[0] == found[1]
