"""Search, predictors, and what is read from their files."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.studies.search import (
    BEST,
    DATABASE,
    distributions,
    require_optuna,
    search_seed,
    storage_url,
)
from pipeline.studies.trials import collect
from pollinate.errors import UsageError
from tests.pipeline.studies.plans import facts, plan, run

optuna = pytest.importorskip("optuna")
RATES = {"optimizer.lr": {"low": 1e-4, "high": 1.0, "log": True}}


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_PAUSE", "0")


def best(folder: Path, arm: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "search" / arm / BEST).read_text())
    return found


def test_each_arm_is_searched_alike_and_trained_by_its_best(tmp_path: Path) -> None:
    made = plan(
        seeds=[0],
        single_task=False,
        variants={"up": ["balancer=upgrad"]},
        search={"trials": 3, "keys": RATES},
    )
    run(made, tmp_path)
    for arm in ("multi_task", "up"):
        found = best(tmp_path, arm)
        scores = found["scores"]
        assert isinstance(scores, dict)
        assert len(scores) == 3
        assert found["score"] == max(scores.values())
        told = json.loads((tmp_path / "trials" / arm / "seed-0" / "told.json").read_text())
        values = found["values"]
        assert isinstance(values, dict)
        assert float(told["optimizer.lr"]) == values["optimizer.lr"]
    seeds = {json.loads(p.read_text())["seed"] for p in (tmp_path / "search").rglob("told.json")}
    assert seeds == {str(search_seed(made))}
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database:
        rows = database.execute("select count(*) from trials where state = 'COMPLETE'")
        assert rows.fetchone() == (6,)


def test_a_search_that_was_stopped_goes_on_and_draws_the_same(tmp_path: Path) -> None:
    made = plan(seeds=[0], single_task=False, search={"trials": 3, "keys": RATES})
    run(made, tmp_path / "whole", jobs=1)
    place = tmp_path / "parts" / "search" / "multi_task" / "trial-0" / "summary.json"
    _, whole = run(made, tmp_path / "parts", stopping=place.exists)
    assert not whole
    run(made, tmp_path / "parts")
    assert best(tmp_path / "whole", "multi_task") == best(tmp_path / "parts", "multi_task")


def test_a_search_goes_on_after_a_failure_and_says_when_all_fail(tmp_path: Path) -> None:
    made = plan(seeds=[0], single_task=False, base=["dim=1"], search={"trials": 2, "keys": RATES})
    run(made, tmp_path)
    (trial,) = collect(tmp_path).trials
    assert trial.message == "all trials of its search have failed"


def test_values_of_every_kind() -> None:
    keys = {"a": [1, 2], "b": {"low": 1, "high": 4}, "c": {"d": {"low": 0.1, "high": 0.2}}}
    kinds = {key: type(found).__name__ for key, found in distributions(keys).items()}
    assert kinds == {
        "a": "CategoricalDistribution",
        "b": "IntDistribution",
        "c.d": "FloatDistribution",
    }


def test_the_seed_of_a_search_is_none_of_the_studys() -> None:
    assert search_seed(plan(seeds=[0, 1])) == 1000
    assert search_seed(plan(seeds=[1000, 1001])) == 1002


def test_storage_is_a_file_unless_given(tmp_path: Path) -> None:
    assert storage_url({}, tmp_path) == f"sqlite:///{tmp_path / DATABASE}"
    assert storage_url({"storage": "mysql://host/db"}, tmp_path) == "mysql://host/db"


def test_storage_that_cant_be_opened_is_named(tmp_path: Path) -> None:
    made = plan(
        seeds=[0], single_task=False, search={"trials": 1, "keys": RATES, "storage": "nodb://x"}
    )
    scheduler, _ = run(made, tmp_path)
    assert scheduler.works[0].message is not None
    assert "study.search.storage can't be opened" in scheduler.works[0].message


def test_optuna_is_asked_for_only_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pollinate.requirements.installed_spec", lambda name: None)
    require_optuna(None)
    with pytest.raises(
        UsageError, match=r'optuna is not installed; run pip install "pollinate\[study\]"'
    ):
        require_optuna({"keys": RATES})


def test_predictors_are_of_tasks_whoever_was_scored(tmp_path: Path) -> None:
    run(plan(seeds=[0], predictors=["tag", "cka"]), tmp_path)
    results = collect(tmp_path)
    assert results.predictors == {
        "cka": {"a": {"b": 0.25}, "b": {"a": 0.25}},
        "tag": {"a": {"b": 0.75}, "b": {"a": 0.75}},
    }
    # cka: 8 outcomes of half a second and the features of two models; tag: those and the run
    assert results.predictor_seconds == {"cka": 4 + 2, "tag": 4 + 2 + 3}


def test_validation_scores_stand_in_where_the_test_has_no_labels(tmp_path: Path) -> None:
    known = facts()
    known.tasks["b"] = replace(known.tasks["b"], tested=False)
    run(plan(seeds=[0], known=known), tmp_path)
    results = collect(tmp_path)
    trial = next(results.finished("multi_task"))
    assert trial.test["b"] == trial.valid["b"]
    assert any("b: the test rows have no labels, so validation scores" in n for n in results.notes)
    assert any(note.startswith("one seed: differences have no intervals") for note in results.notes)
