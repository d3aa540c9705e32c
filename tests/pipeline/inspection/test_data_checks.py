"""Each check finds what it is for, and nothing in data that are fine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.configuration.composition import compose
from pipeline.inspection.inspection_page import inspection_metrics, inspection_page
from pipeline.inspection.inspection_run import InspectionFindings, inspect_data
from tests.rows.row import DATA
from tests.shops import data, write


def found(folder: Path, table: str, **options: Any) -> InspectionFindings:
    """What is found in a CSV."""
    write(folder, {"shop.csv": table, "shop.yaml": yaml.safe_dump(data(**options))})
    arguments = [f"data={folder / 'shop.yaml'}", f"data.cache={folder / 'cache'}"]
    return inspect_data(compose("inspect", [*arguments, "tracking=none"]))


def rows(*parts: tuple[str, str, str]) -> str:
    """A CSV of texts, labels and splits, after 60 good ones."""
    good = [
        (f"text number {row}", "ab"[row % 2], ("train", "train", "valid", "test")[row // 2 % 4])
        for row in range(60)
    ]
    return "\n".join(["text,label,part", *(",".join(row) for row in [*good, *parts])]) + "\n"


PART: dict[str, Any] = {"split": {"column": "part"}}


def test_good_data_have_no_problems(tmp_path: Path) -> None:
    assert found(tmp_path, rows(), **PART).problems == []


@pytest.mark.parametrize(
    ("table", "what", "places"),
    [
        (rows(("only,one", "", "")), "rows can't be used", "line 62"),
        (rows(("text number 0", "a", "test")), "rows of test are exact copies", "line 62 = "),
        (rows(("x", "a", "train"), ("x", "b", "train")), "several labels of kind", "line 62: a"),
        (rows(("x", "a", "train"), ("x", "a", "train")), "training rows are copies", "line 63"),
        (rows(("x", "new", "test")), "labels are in test and not in train", "new"),
        (rows(("x", "rare", "train")), "classes have fewer than 5 training rows", "rare: 1"),
        (rows(("x", "rare", "train")), "classes have no row in test", "rare"),
        (rows(("<b>x</b>", "a", "train")), "traces of HTML", "line 62"),
        (rows(*((f"y{n}", "a", "test") for n in range(60))), "labels of test are shared out", None),
        (rows(*((f"y{n}", "a", "train") for n in range(700))), "the largest class has 45", None),
        ("text,label,part\n" + "x,a,train\ny,b,train\n" * 9, "test has no rows", None),
        (rows().replace(",a,", ",,").replace(",b,", ",a,"), "have the label a", None),
    ],
)
def test_checks(table: str, what: str, places: str | None, tmp_path: Path) -> None:
    problems = found(tmp_path, table, **PART).problems
    own = [problem for problem in problems if what in problem.what]
    assert own, [problem.what for problem in problems]
    assert places is None or any(places in place for place in own[0].places)
    assert own[0].advice


def test_texts_that_just_fit_are_not_cut(tmp_path: Path) -> None:
    whole = found(tmp_path, rows(), **PART)
    longest = int(whole.inspected_datasets["shop"].stores["text"].lengths().max())
    texts = {"vocab_size": 300, "max_length": longest}
    assert found(tmp_path, rows(), text=texts, **PART).problems == []
    texts["max_length"] = longest // 2
    shop = found(tmp_path, rows(), text=texts, **PART)
    (problem,) = shop.problems
    cut = int((whole.inspected_datasets["shop"].stores["text"].lengths() > longest // 2).sum())
    share = cut / len(shop.inspected_datasets["shop"].loaded.table)
    assert problem.what == f"texts are cut at {longest // 2} tokens ({share:.0%})"
    assert problem.count == cut


def test_a_column_is_constant_if_all_of_it_is(tmp_path: Path) -> None:
    lines = rows().splitlines()
    same = "\n".join([f"{lines[0]},note", *(f"{line},{'n' * 300}" for line in lines[1:])])
    (problem,) = found(tmp_path, same + "\n", **PART).problems
    assert problem.what == "column note always holds the same"
    assert found(tmp_path, same + "!\n", **PART).problems == []


def test_a_data_set_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    spec = data(**PART)
    spec["datasets"]["gone"] = {**spec["datasets"]["shop"], "path": "gone.csv"}
    write(tmp_path, {"shop.csv": rows(), "shop.yaml": yaml.safe_dump(spec)})
    config = compose("inspect", [f"data={tmp_path / 'shop.yaml'}", "tracking=none"])
    both = inspect_data(config)
    assert "there is no file" in both.problems[0].what
    assert set(both.facts) == {"shop"}


def test_the_page_runs_nothing_from_the_data(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script>'
    table = rows((evil.replace('"', ""), "<img src=x>", "train"))
    shown = inspection_page(evil, found(tmp_path, table, **PART), samples=40)
    assert "<script" not in shown
    assert "<img src=x>" not in shown
    assert "&lt;script&gt;" in shown
    assert "http" not in shown.replace("http://www.w3.org", "").replace("http-equiv", "")


@pytest.mark.parametrize("name", ["tasks", "audio_folder"])
def test_all_kinds_of_rows_and_tasks_are_shown(name: str, tmp_path: Path) -> None:
    arguments = [f"data={DATA / name}.yaml", "tracking=none", f"data.cache={tmp_path}"]
    everything = inspect_data(compose("inspect", arguments))
    shown = inspection_page("shop", everything, samples=6)
    assert shown.count("<figure>") == 6
    assert "data:image/png;base64" in shown
    assert all(f"<h3>{task}</h3>" in shown for task in everything.facts["shop"].tasks)
    assert json.dumps(inspection_metrics(everything))


def test_rows_without_labels_are_no_problem(tmp_path: Path) -> None:
    write(tmp_path, {"more.csv": "text\n" + "".join(f"more no {row}\n" for row in range(20))})
    spec = data(**PART)
    more = {"source": "csv", "path": "more.csv", "inputs": {"text": "text"}, "split": {"train": 1}}
    spec["datasets"]["more"] = more
    spec["tasks"]["kind"]["unlabelled"] = "more"
    write(tmp_path, {"shop.csv": rows(), "shop.yaml": yaml.safe_dump(spec)})
    arguments = [f"data={tmp_path / 'shop.yaml'}", f"data.cache={tmp_path / 'cache'}"]
    assert inspect_data(compose("inspect", [*arguments, "tracking=none"])).problems == []
