"""A search's folder may be a stranger's: what its plan must not say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.searching.plan import PLAN, SearchPlan, Stage, Trial, load_plan
from pipeline.searching.request import TOKENIZER, check_trial
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
    }
    stages = [Stage("first", {"joint": None}), Stage("second", {"drawn-001": 1})]
    return SearchPlan("search", 0, [], [], [], "", [], facts, 2, trials, stages)


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan().save(tmp_path)
    assert load_plan(tmp_path) == plan()


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
    for name in (".leader.lock", "config.yaml", TOKENIZER, temporary_beside(tmp_path / PLAN).name):
        (tmp_path / name).write_text("")
    assert is_empty(tmp_path, PLAN, TOKENIZER) and not is_empty(tmp_path)
    (tmp_path / "mine.txt").write_text("")
    assert not is_empty(tmp_path, PLAN, TOKENIZER)


def test_a_pause_is_after_some_epochs(tmp_path: Path) -> None:
    found = plan()
    found.stages[1].until["drawn-001"] = "1 run_dir=outside"  # type: ignore[assignment]  # wrong
    found.save(tmp_path)
    with pytest.raises(PollinateError, match="contradicts itself"):
        load_plan(tmp_path)
