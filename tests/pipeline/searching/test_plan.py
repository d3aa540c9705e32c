"""A search's folder may be a stranger's: what its plan must not say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.searching.plan import PLAN, Recipe, SearchPlan, Stage, Trial, load_plan
from pipeline.searching.request import check_trial, tokenizer_file
from pipeline.searching.search_run import student_name
from pipeline.searching.trials import merging, work_share
from pipeline.studies.plan import MultiTaskFacts, TaskFacts
from pipeline.studies.prepare import is_empty
from pollinate.errors import PollinateError, UsageError
from pollinate.files import temporary_beside


def plan() -> SearchPlan:
    facts = MultiTaskFacts(
        {"mood": TaskFacts(["notes"], ["text"], "accuracy", True)}, {"notes": 8}, 8, 2, 4, {}, False
    )
    trials = {
        "joint": Trial("joint", "joint", ["mood"], [], 2),
        "drawn-001": Trial("drawn-001", "drawn", ["mood"], ["dim=8"], 2, "joint", {"dim": 1.0}),
        "joint-fast": Trial("joint-fast", "joint", ["mood"], [], 6, recipe="fast", rungs=[2, 6]),
    }
    others = {"fast": Recipe(["dim=4"], ["dim=4"], facts, 6)}
    stages = [Stage("first", {"joint": None}), Stage("second", {"drawn-001": 1})]
    return SearchPlan("search", 0, [], [], [], "", [], facts, 2, trials, stages, others)


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan().save(tmp_path)
    assert load_plan(tmp_path) == plan()
    assert list(plan().recipes) == [None, "fast"]


def test_a_plan_from_before_there_were_recipes_is_read(tmp_path: Path) -> None:
    plan().save(tmp_path)
    file = tmp_path / PLAN
    plain = json.loads(file.read_text())
    del plain["others"], plain["trials"]["joint-fast"]
    for trial in plain["trials"].values():
        del trial["recipe"], trial["rungs"], trial["taught_by"]
    file.write_text(json.dumps(plain))
    found = load_plan(tmp_path)
    assert found is not None and found.others == {} and found.trials["drawn-001"].rungs == []


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../../outside"},
        {"name": "/tmp/outside"},
        {"source": "../../outside"},
        {"source": "nobody"},
        {"kind": "magic"},
        {"epochs": 10**400},
        {"epochs": 0},
        {"epochs": "2 launcher=sh"},
        {"tasks": ["gone"]},
        {"tasks": []},
        {"overrides": [["dim", 8]]},
        {"drawn": None},
        {"recipe": "slow"},
        {"rungs": [0, 2]},
    ],
)
def test_a_trial_that_leads_elsewhere_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    plan().save(tmp_path)
    file = tmp_path / PLAN
    plain = json.loads(file.read_text())
    own = plain["trials"].pop("drawn-001") | change
    plain["trials"][own["name"]] = own
    plain["stages"][1]["until"] = {own["name"]: 1}
    file.write_text(json.dumps(plain))
    with pytest.raises(PollinateError, match=r"search.json is no plan of a search: "):
        load_plan(tmp_path)


@pytest.mark.parametrize("override", ["launcher=sh", "engine=ray", "tracking.uri=x", "data=x.yaml"])
def test_a_trial_says_only_how_it_is_trained(override: str) -> None:
    check_trial("search.json", ["dim=8", "data.tasks.mood.weight=2.0"])
    with pytest.raises(UsageError, match=r"search\.json sets "):
        check_trial("search.json", ["dim=8", override])


def test_a_folder_is_used_again_after_a_kill_without_a_plan(tmp_path: Path) -> None:
    tokenizers = [tokenizer_file(None), tokenizer_file("fast")]
    own = (".leader.lock", "config.yaml", temporary_beside(tmp_path / PLAN).name)
    for name in (*own, *tokenizers):
        (tmp_path / name).write_text("")
    assert is_empty(tmp_path, PLAN, *tokenizers) and not is_empty(tmp_path)
    (tmp_path / "mine.txt").write_text("")
    assert not is_empty(tmp_path, PLAN, *tokenizers)


def test_a_pause_is_after_some_epochs(tmp_path: Path) -> None:
    found = plan()
    found.stages[1].until["drawn-001"] = "1 run_dir=outside"  # type: ignore[assignment]  # wrong
    found.save(tmp_path)
    with pytest.raises(PollinateError, match="contradicts itself"):
        load_plan(tmp_path)


def test_branches_take_about_the_steps_of_a_run_without_any() -> None:
    facts = plan().facts
    merged = merging(facts, "mood", ["mood"], 6)
    assert merged.rounds == 3
    assert merged.overrides == [
        "transfer=fork_merge", "transfer.targets=[mood]", "transfer.every_n_steps=2",
    ]  # fmt: skip
    trial = Trial("a", "drawn", ["mood"], merged.overrides, merged.rounds)
    assert work_share(facts, trial) * trial.epochs == 6


def test_a_student_is_known_by_what_it_learns_from_and_how() -> None:
    def student(name: str, lr: float, **taught: float) -> Trial:
        own = [f"optimizer.lr={lr}"]
        return Trial(name, "student", ["mood"], own, 2, taught_by={"mood": taught})

    trials = plan().trials
    wanted = student("", 0.1, joint=0.5, linear=0.5)
    assert student_name(trials, wanted) == ("student-3", False)
    trials["student-3"] = student("student-3", 0.1, joint=0.5, linear=0.5)
    assert student_name(trials, wanted) == ("student-3", True)
    # other limits, of which another shape comes, or another ensemble
    assert student_name(trials, student("", 0.2, joint=0.5, linear=0.5)) == ("student-4", False)
    assert student_name(trials, student("", 0.1, joint=1.0)) == ("student-4", False)
    trials["student-3"] = replace(trials["student-3"], taught_by={})  # from before that was noted
    assert student_name(trials, wanted) == ("student-3", True)
