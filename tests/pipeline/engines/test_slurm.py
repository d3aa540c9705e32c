"""Trials as Slurm's jobs, of which submitit's local executor plays the part."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.engines.slurm import SlurmEngine
from pipeline.studies.plan import trial_files
from pipeline.studies.trials import collect
from pollinate.errors import PollinateError, UsageError
from tests.pipeline.engines.checks import kill_and_go_on, words
from tests.pipeline.studies.plans import plan, run

pytest.importorskip("submitit")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SlurmEngine]:
    found = SlurmEngine(cluster="local")
    found.check()
    found.open(tmp_path / "study")
    yield found
    found.close()
    assert not (tmp_path / "study" / "slurm").exists()


def test_a_job_that_comes_to_the_end_of_its_time_goes_on_after_it_was_queued_again(
    engine: SlurmEngine, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_PAUSE", "0.2")
    made, folder = plan(seeds=[0], single_task=False), tmp_path / "study"
    files = trial_files(folder, "multi_task", 0)
    told: list[int] = []

    def warn() -> bool:
        if files.step() >= 3 and not told:
            holder = json.loads(files.lock.read_text())
            job = psutil.Process(holder["process"]).parent()
            told.append(job.pid)
            job.send_signal(signal.SIGUSR2)  # Slurm's, as grace= asks for
        return False

    scheduler, _ = run(made, folder, stopping=warn, engine=engine)
    (work,) = scheduler.works
    assert (work.state, work.losses, work.failures) == ("done", 0, 0)
    assert [word for word, _ in words(log)] == ["begin", "begin", "end"]
    assert len(files.run.metrics.read_text().splitlines()) == 10  # it was asked to save
    (trial,) = collect(folder).trials
    assert trial.seconds > 2  # both sessions of the job


def test_failures_are_told_and_stopping_asks(
    engine: SlurmEngine, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_PAUSE", "0.2")
    made = plan(seeds=[0], single_task=False, variants={"bad": ["dim=2"]})
    folder = tmp_path / "study"
    files = trial_files(folder, "multi_task", 0)
    _, whole = run(made, folder, stopping=lambda: files.step() >= 2, engine=engine)
    assert not whole
    stopped = files.step()
    assert 2 <= stopped < 10
    assert json.loads(files.ledger.read_text())["status"] == "interrupted"
    assert not files.stop.exists()
    run(made, folder, engine=engine)
    assert len(files.run.metrics.read_text().splitlines()) == 10
    found = {trial.arm: trial for trial in collect(folder).trials}
    assert found["multi_task"].status == "finished"
    bad = found["bad"].message
    assert bad is not None and bad.startswith("memory ran out in batches of 8 rows; try")


def test_a_job_that_is_killed_goes_on(
    engine: SlurmEngine, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_PAUSE", "0.1")
    monkeypatch.setattr("submitit.core.core.Job._results_timeout_s", 0)
    made, folder = plan(seeds=[0], single_task=False), tmp_path / "study"
    files = trial_files(folder, "multi_task", 0)
    killed: list[int] = []

    def kill() -> bool:
        if files.step() >= 3 and not killed:
            holder = json.loads(files.lock.read_text())
            job = psutil.Process(holder["process"]).parent()
            killed.append(job.pid)
            os.kill(job.pid, signal.SIGKILL)
        return False

    scheduler, _ = run(made, folder, stopping=kill, engine=engine)
    (work,) = scheduler.works
    assert (work.state, work.losses) == ("done", 1)
    assert [word for word, _ in words(log)] == ["begin", "begin", "end"]


@pytest.mark.slow
def test_kills_lose_and_repeat_no_finished_trial(tmp_path: Path, log: Path) -> None:
    """A job outlives the process that submitted it, which therefore comes back to it."""
    options = {"_target_": "pollinate.engines.SlurmEngine", "cluster": "local"}
    kill_and_go_on(plan(), tmp_path / "study", log, options, kills=2)


def test_a_machine_without_slurm_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    begun = time.monotonic()
    with pytest.raises(PollinateError, match="there is no sbatch on this machine; eng"):
        SlurmEngine().check()
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time": 0}, "engine.time and engine.cpus must be >= 1"),
        ({"gpus": -1}, "engine.gpus >= 0"),
        ({"memory": 0}, "engine.memory > 0"),
        ({"time": 1, "grace": 60}, "less than engine.time, 60 seconds, got 60"),
        ({"cluster": "sge"}, "engine.cluster must be slurm or local, got sge"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SlurmEngine(**options)  # type: ignore[arg-type]  # numbers and a name
