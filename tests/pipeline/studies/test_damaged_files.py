"""What a study makes of files that are damaged, of lost time and of what lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.studies.plan import trial_files
from pipeline.studies.search import SearchTrial
from pipeline.studies.trials import collect
from pollinate.errors import PollinateError
from tests.pipeline.studies.plans import plan, run


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_PAUSE", "0")


@pytest.mark.parametrize("damage", ["", '{"status": "fini', "[]", "\0\0"])
def test_a_run_whose_summary_is_damaged_goes_on(damage: str, tmp_path: Path) -> None:
    made = plan(seeds=[0], single_task=False)
    run(made, tmp_path)
    files = trial_files(tmp_path, "multi_task", 0)
    whole = files.summary()
    files.run.summary.write_text(damage)
    assert [trial.status for trial in collect(tmp_path).trials] == ["waiting"]
    run(made, tmp_path)
    assert files.summary() == whole


def test_a_damaged_ledger_is_named(tmp_path: Path) -> None:
    made = plan(seeds=[0], single_task=False)
    run(made, tmp_path)
    ledger = trial_files(tmp_path, "multi_task", 0).ledger
    ledger.write_text("{")
    with pytest.raises(PollinateError, match=r"seed-0.json can't be read: .*; restore it, or"):
        collect(tmp_path)


def test_a_run_whose_time_is_over_after_a_stop_has_run_out_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(seeds=[0], single_task=False)
    monkeypatch.setenv("STAND_IN_PAUSE", "0.05")
    files = trial_files(tmp_path, "multi_task", 0)
    run(made, tmp_path, stopping=lambda: files.step() >= 2)
    assert files.ledger.read_text().count("interrupted") == 1
    run(made, tmp_path, timeout=0.01)
    assert [trial.status for trial in collect(tmp_path).trials] == ["timeout"]


def test_a_finished_run_without_a_score_says_how_to_run_it_anew(tmp_path: Path) -> None:
    run(plan(seeds=[0], single_task=False, base=["dim=5"]), tmp_path)
    (trial,) = collect(tmp_path).trials
    assert trial.message is not None
    assert trial.message.startswith("it finished without a score of a; ")
    assert trial.message.endswith("multi_task/seed-0 it is run anew")


def test_a_search_that_cant_be_ended_fails_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")

    def gone(self: SearchTrial) -> None:
        raise PollinateError("the database is gone")

    monkeypatch.setattr(SearchTrial, "wrap_up", gone)
    search = {"trials": 1, "keys": {"optimizer.lr": [0.1, 0.2]}}
    scheduler, _ = run(plan(seeds=[0], single_task=False, search=search), tmp_path)
    assert [work.message for work in scheduler.works] == [
        "the database is gone",
        "it needs multi_task, search 1, which failed",
    ]
