"""Trials run side by side, in their order, none twice; forecasts of the time that is left."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from pipeline.engines.engine import Handle, Order, Outcome
from pipeline.engines.local import LocalEngine
from pipeline.engines.process import ProcessLock, is_taken
from pipeline.studies.plan import trial_files
from pipeline.studies.results import StudyResults
from pipeline.studies.scheduler import ScheduledJob, remaining_seconds
from pipeline.studies.trials import collect
from pipeline.text_format import duration
from tests.pipeline.engines.checks import kill_and_go_on, words
from tests.pipeline.studies import plans
from tests.pipeline.studies.plans import Silent, facts, jobs_of, plan, run


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "runs.log"
    monkeypatch.setenv("STAND_IN_LOG", str(path))
    monkeypatch.setenv("STAND_IN_PAUSE", "0.005")
    return path


def status(results: StudyResults) -> dict[str, list[str]]:
    return {arm: [t.status for t in results.trials if t.arm == arm] for arm in results.arms}


def test_all_trials_finish_and_are_never_run_again(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_PAUSE", "0.04")  # long enough to be looked at
    made = plan()
    scheduler, whole = run(made, tmp_path / "study")
    assert whole
    assert {work.state for work in scheduler.works} == {"done"}
    results = collect(tmp_path / "study")
    assert {status for trial in results.trials for status in [trial.status]} == {"finished"}
    trial = next(results.finished("multi_task"))
    assert trial.parameters == 7
    assert trial.labels == {"a": 100, "b": 100}
    assert trial.memory is not None
    assert trial.memory > 1_000_000
    assert trial.seconds > 0.04
    before = words(log)
    again, _ = run(made, tmp_path / "study")
    assert words(log) == before
    assert all(work.found for work in again.works)


def test_memory_of_a_launcher_is_not_taken_for_the_runs(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_PAUSE", "0.04")
    monkeypatch.setattr(plans, "LAUNCHER", f"env {plans.LAUNCHER}")
    run(plan(seeds=[0], single_task=False), tmp_path / "study")
    (trial,) = collect(tmp_path / "study").trials
    assert (trial.status, trial.memory) == ("finished", None)


def test_as_many_at_a_time_as_asked_for(tmp_path: Path, log: Path) -> None:
    run(plan(), tmp_path / "study", jobs=2)
    most = now = 0
    for word, _ in words(log):
        now += {"begin": 1, "end": -1}[word]
        most = max(most, now)
    assert most == 2


def test_a_transfer_waits_for_its_source(tmp_path: Path, log: Path) -> None:
    run(plan(transfers=[["a", "b"]], multi_task=False), tmp_path / "study", jobs=6)
    order = [" ".join(line) for line in words(log)]
    for seed in (0, 1):
        assert order.index(f"end single_task-a/seed-{seed}") < order.index(
            f"begin transfer-a-to-b/seed-{seed}"
        )


FAILURES = {
    1: "2 problems - the loss is NaN - so is another",
    2: "memory ran out in batches of 8 rows; try sampler.batch_size=4; run fewer at a time",
    3: "it was killed, probably for lack of memory; run fewer at a time (jobs=1)",
    5: "it finished without a score of a",
}


@pytest.mark.parametrize("how", FAILURES)
def test_a_failure_is_told_and_the_rest_goes_on(how: int, tmp_path: Path, log: Path) -> None:
    made = plan(seeds=[0], variants={"bad": [f"dim={how}"]})
    run(made, tmp_path / "study")
    results = collect(tmp_path / "study")
    assert status(results) == {
        "single_task:a": ["finished"],
        "single_task:b": ["finished"],
        "multi_task": ["finished"],
        "bad": ["failed"],
    }
    bad = next(trial for trial in results.trials if trial.arm == "bad")
    assert bad.message is not None
    assert bad.message.startswith(FAILURES[how])
    assert f"bad, seed 0, failed: {bad.message}" in results.notes


def test_a_failed_trial_is_tried_again_as_often_as_asked_for(tmp_path: Path, log: Path) -> None:
    made = plan(seeds=[0], single_task=False, multi_task=False, variants={"bad": ["dim=1"]})
    scheduler, _ = run(made, tmp_path / "study", retries=2)
    assert Counter(word for word, _ in words(log)) == {"begin": 3}
    assert [work.state for work in scheduler.works] == ["failed"]


def test_what_needs_a_failed_trial_fails_with_its_name(tmp_path: Path, log: Path) -> None:
    made = plan(seeds=[0], base=["dim=1"], multi_task=False, transfers=[["a", "b"]])
    run(made, tmp_path / "study")
    found = {trial.arm: trial.message for trial in collect(tmp_path / "study").trials}
    assert found["transfer:a>b"] == "it needs single_task:a, seed 0, which failed"


def test_time_limit_stops_a_trial_and_keeps_it(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(seeds=[0], single_task=False)
    monkeypatch.setenv("STAND_IN_PAUSE", "0.1")
    run(made, tmp_path / "study", timeout=0.6)
    (trial,) = collect(tmp_path / "study").trials
    assert trial.status == "timeout"
    assert trial.message is not None
    assert "it took more than timeout=0.01 minutes and was stopped" in trial.message
    run(made, tmp_path / "study", timeout=0.6)  # its time is over already
    assert Counter(word for word, _ in words(log)) == {"begin": 1}
    run(made, tmp_path / "study", timeout=60)
    assert status(collect(tmp_path / "study")) == {"multi_task": ["finished"]}
    assert Counter(word for word, _ in words(log)) == {"begin": 2, "end": 1}


def test_stopping_asks_and_the_next_session_goes_on(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, folder = plan(seeds=[0]), tmp_path / "study"
    monkeypatch.setenv("STAND_IN_PAUSE", "0.05")
    files = trial_files(folder, "single_task:a", 0)
    _, whole = run(made, folder, stopping=lambda: files.step() >= 2)
    assert not whole
    stopped = files.step()
    assert 2 <= stopped < 10
    assert status(collect(folder))["single_task:a"] == ["waiting"]
    run(made, folder)
    steps = files.run.metrics.read_text().splitlines()
    assert len(steps) == 10 == files.step()  # none was taken twice
    assert {s for found in status(collect(folder)).values() for s in found} == {"finished"}


def test_a_locked_trial_is_left_to_the_other_process(tmp_path: Path, log: Path) -> None:
    made, folder = plan(seeds=[0]), tmp_path / "study"
    lock = ProcessLock(trial_files(folder, "multi_task", 0).lock)
    assert lock.acquire()

    def release() -> bool:
        if len([word for word, _ in words(log) if word == "end"]) == 2:
            lock.release()
        return False

    scheduler, _ = run(made, folder, stopping=release)
    assert [line[1] for line in words(log) if line[0] == "begin"][-1] == "multi_task/seed-0"
    assert {work.state for work in scheduler.works} == {"done"}


def test_a_folder_of_an_earlier_version_is_resumed(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ledgers know no session, and its locks' files are empty."""
    made, folder = plan(seeds=[0]), tmp_path / "study"
    monkeypatch.setenv("STAND_IN_PAUSE", "0.05")
    files = trial_files(folder, "single_task:a", 0)
    run(made, folder, stopping=lambda: files.step() >= 2)
    for ledger in folder.glob("trials/*/*.json"):
        known = json.loads(ledger.read_text())
        del known["session"]
        known["sessions"][-1][1] = None  # it was killed
        ledger.write_text(json.dumps(known))
        ledger.with_suffix(".lock").write_text("")
    assert status(collect(folder))["single_task:a"] == ["waiting"]
    run(made, folder)
    assert len(files.run.metrics.read_text().splitlines()) == 10
    assert {s for found in status(collect(folder)).values() for s in found} == {"finished"}


def test_a_trial_that_is_lost_again_and_again_has_failed(tmp_path: Path) -> None:
    """As one that takes its machine's last memory; one that takes steps between goes on."""

    class Lossy(Handle):
        def __init__(self, order: Order) -> None:
            self.order = order

        @property
        def seconds(self) -> float:
            return 0.0

        def poll(self) -> Outcome:
            if steps:
                self.order.begun.parent.mkdir(parents=True, exist_ok=True)
                self.order.begun.touch()
                line = json.dumps({"step": steps.pop()}) + "\n"
                with (self.order.begun.parent / "metrics.jsonl").open("a") as file:
                    file.write(line)
            return Outcome(message="the machine is gone", lost=True)

        def stop(self) -> None:
            raise AssertionError

        kill = stop

    class LossyEngine(LocalEngine):
        def submit(self, order: Order) -> Handle:  # type: ignore[override]  # no process
            begun.append(order.session)
            return Lossy(order)

    begun: list[str] = []
    steps = [3, 2, 1]
    scheduler, whole = run(
        plan(seeds=[0], single_task=False), tmp_path / "study", engine=LossyEngine()
    )
    assert whole
    assert [work.message for work in scheduler.works] == ["the machine is gone"]
    assert len(begun) == len(set(begun)) == 3 + 3
    (trial,) = collect(tmp_path / "study").trials
    assert (trial.status, trial.message) == ("failed", "the machine is gone")


def test_a_lock_is_kept_by_what_inherits_it(tmp_path: Path) -> None:
    lock = ProcessLock(tmp_path / "lock")
    assert lock.acquire()
    child = subprocess.Popen(["sleep", "30"], pass_fds=(lock.number,))
    lock.release()
    assert is_taken(tmp_path / "lock")
    child.kill()
    child.wait()
    assert not is_taken(tmp_path / "lock")


@pytest.mark.slow
@pytest.mark.parametrize("deaf", [False, True], ids=["asked", "orphaned"])
def test_kills_lose_and_repeat_no_finished_trial(
    deaf: bool, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_PAUSE", "0.03")
    if deaf:  # the trials outlive the study, which must wait for them
        monkeypatch.setenv("STAND_IN_DEAF", "1")
    made = plan(seeds=range(4), transfers=[["a", "b"]])
    kill_and_go_on(made, tmp_path / "study", log, {"_target_": "pollinate.engines.LocalEngine"})


def test_two_studies_of_the_same_seeds_say_the_same(tmp_path: Path, log: Path) -> None:
    made = plan(known=facts(("a", "b", "c")), pairs="all")
    run(made, tmp_path / "one", jobs=1)
    run(made, tmp_path / "two", jobs=3)
    one, two = (collect(tmp_path / name) for name in ("one", "two"))
    assert [trial.test for trial in one.trials] == [trial.test for trial in two.trials]


def test_the_display_is_told_of_each_trial(tmp_path: Path, log: Path) -> None:
    scheduler, _ = run(plan(seeds=[3]), tmp_path / "study", jobs=1)
    assert isinstance(scheduler.display, Silent)
    assert scheduler.display.ended_titles == [
        "multi_task, seed 3",
        "single_task:a, seed 3",
        "single_task:b, seed 3",
    ]


def works(tmp_path: Path, predictors: list[str]) -> list[ScheduledJob]:
    return [ScheduledJob(job) for job in jobs_of(plan(seeds=[0], predictors=predictors), tmp_path)]


def test_before_anything_is_done_the_guesses_count(tmp_path: Path) -> None:
    found = works(tmp_path, [])
    expected = sum(work.job.expected or 0.0 for work in found)
    assert remaining_seconds(found, 1) == pytest.approx(expected)
    assert remaining_seconds(found, 2) == pytest.approx(expected / 2)


def test_what_has_no_guess_takes_as_long_as_others(tmp_path: Path) -> None:
    found = works(tmp_path, ["tag"])
    known = [work.job.expected for work in found if work.job.expected is not None]
    assert len(known) == len(found) - 1
    assert remaining_seconds(found, 1) == pytest.approx(sum(known) * 4 / 3)


def test_finished_trials_correct_the_guesses(tmp_path: Path) -> None:
    found = works(tmp_path, [])
    first, *rest = found
    assert first.job.expected is not None
    first.state, first.seconds = "done", 3 * first.job.expected
    assert remaining_seconds(found, 1) == pytest.approx(
        3 * sum(w.job.expected or 0.0 for w in rest)
    )


def test_nothing_is_known_without_guesses(tmp_path: Path) -> None:
    found = works(tmp_path, [])
    for work in found:
        work.job.expected = None
    assert remaining_seconds(found, 1) is None


def test_durations() -> None:
    assert [duration(s) for s in (4.2, 600, 12_000)] == ["4 s", "10 min", "3 h 20 min"]
