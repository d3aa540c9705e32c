"""Trials on Ray: two machines of one core, which are processes of this one."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.engines.ray import RayEngine, greet, supervise
from pipeline.studies.plan import trial_files
from pipeline.studies.trials import collect
from pipeline.study import main
from pollinate.errors import PollinateError, UsageError
from tests.pipeline.engines.checks import check_scores, kill_and_go_on, words
from tests.pipeline.studies.plans import plan, run

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
SOON = {"health_check_period_ms": 300, "health_check_failure_threshold": 2}  # a loss is noted
OWN = {"num_cpus": 1, "object_store_memory": 80_000_000}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two machines of one core each, to which this process is connected."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    before = signal.getsignal(signal.SIGTERM)
    head = {**OWN, "include_dashboard": False, "_system_config": SOON}
    made = Cluster(initialize_head=True, head_node_args=head)
    made.add_node(**OWN)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def engine(cluster: Any, tmp_path: Path) -> Iterator[RayEngine]:
    found = RayEngine(address=cluster.address)
    found.check()
    found.open(tmp_path)
    yield found
    found.close()
    assert ray.is_initialized()  # by this program, so it stays


def test_trials_run_side_by_side_and_are_never_run_again(
    engine: RayEngine, tmp_path: Path, log: Path
) -> None:
    made = plan(variants={"bad": ["dim=1"]})
    _, whole = run(made, tmp_path / "study", jobs=4, engine=engine)
    assert whole
    results = collect(tmp_path / "study")
    found = {(trial.arm, trial.status) for trial in results.trials}
    assert ("bad", "failed") in found
    assert len([t for t in results.trials if t.status == "finished"]) == 6
    bad = next(trial for trial in results.trials if trial.arm == "bad")
    assert bad.message == "2 problems - the loss is NaN - so is another"
    finished = next(results.finished("multi_task"))
    assert 0.3 < finished.seconds < 5
    now = most = 0
    for word, _ in (line for line in words(log) if "bad" not in line[1]):
        now += {"begin": 1, "end": -1}[word]
        most = max(most, now)
    assert most == 2  # as many as there are cores, though four were submitted
    before = [line for line in words(log) if "bad" not in line[1]]
    run(made, tmp_path / "study", jobs=4, engine=engine)
    assert [line for line in words(log) if "bad" not in line[1]] == before


def test_stopping_asks_what_runs_and_withdraws_what_waits(
    engine: RayEngine, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_PAUSE", "1.5")  # far longer than it takes to be asked to stop
    made, folder = plan(seeds=[0]), tmp_path / "study"
    files = trial_files(folder, "single_task:a", 0)
    _, whole = run(made, folder, jobs=3, stopping=lambda: files.step() >= 2, engine=engine)
    assert not whole
    assert len({name for _, name in words(log)}) == 2  # the third had no place
    stopped = files.step()
    assert 2 <= stopped < 10
    monkeypatch.setenv("STAND_IN_PAUSE", "0")
    run(made, folder, jobs=3, engine=engine)
    assert len(files.run.metrics.read_text().splitlines()) == 10  # none was taken twice
    assert {trial.status for trial in collect(folder).trials} == {"finished"}


def test_a_time_limit_is_of_running_not_of_waiting(
    engine: RayEngine, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_PAUSE", "0.15")  # 1.5 seconds each, one after another on a core
    made = plan(seeds=[0, 1], single_task=False)
    scheduler, _ = run(made, tmp_path / "study", jobs=2, timeout=60, engine=engine)
    assert {work.state for work in scheduler.works} == {"done"}
    monkeypatch.setenv("STAND_IN_PAUSE", "3")
    run(plan(seeds=[3], single_task=False), tmp_path / "slow", timeout=2, engine=engine)
    (trial,) = collect(tmp_path / "slow").trials
    assert trial.status == "timeout"


def test_a_trial_whose_worker_is_killed_goes_on(
    engine: RayEngine, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_PAUSE", "0.2")
    made, folder = plan(seeds=[0], single_task=False), tmp_path / "study"
    files = trial_files(folder, "multi_task", 0)
    killed: list[int] = []

    def kill() -> bool:
        if files.step() >= 3 and not killed:
            holder = json.loads(files.lock.read_text())
            worker = psutil.Process(holder["process"]).parent()
            killed.append(worker.pid)
            worker.kill()
        return False

    scheduler, _ = run(made, folder, stopping=kill, engine=engine)
    (work,) = scheduler.works
    assert (work.state, work.losses, work.failures) == ("done", 1, 0)
    assert scheduler.display.lost_titles == ["multi_task, seed 0"]  # type: ignore[attr-defined]  # it is Silent
    assert [word for word, _ in words(log)] == ["begin", "begin", "end"]
    assert len(files.run.metrics.read_text().splitlines()) == 10  # it was asked to save


@pytest.mark.slow
def test_trials_of_a_lost_machine_go_on_elsewhere(
    cluster: Any, engine: RayEngine, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_PAUSE", "0.2")
    node = cluster.add_node(num_cpus=2, object_store_memory=80_000_000)
    made, folder = plan(seeds=[0]), tmp_path / "study"
    files = [
        trial_files(folder, arm, 0) for arm in ("single_task:a", "single_task:b", "multi_task")
    ]
    lost: list[Any] = []

    def lose() -> bool:
        if all(one.step() >= 1 for one in files) and not lost:
            lost.append(node)
            cluster.remove_node(node, allow_graceful=False)
        return False

    scheduler, _ = run(made, folder, jobs=3, stopping=lose, engine=engine)
    assert {work.state for work in scheduler.works} == {"done"}
    assert sum(work.losses for work in scheduler.works) >= 1
    ends = [name for word, name in words(log) if word == "end"]
    assert sorted(ends) == sorted(set(ends))
    assert len(ends) == 3
    assert {len(one.run.metrics.read_text().splitlines()) for one in files} == {10}


@pytest.mark.slow
@pytest.mark.parametrize("deaf", [False, True], ids=["asked", "orphaned"])
def test_kills_lose_and_repeat_no_finished_trial(
    deaf: bool, cluster: Any, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if deaf:
        monkeypatch.setenv("STAND_IN_DEAF", "1")
    options = {"_target_": "pollinate.engines.RayEngine", "address": cluster.address}
    kill_and_go_on(plan(), tmp_path / "study", log, options, kills=1)


@pytest.mark.slow
def test_a_study_has_the_scores_of_one_on_this_machine(
    cluster: Any,
    launcher: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    told = ["engine=ray", f"engine.address={cluster.address}"]
    engines = {"ray": told}
    if find_spec("submitit") is not None:
        engines["slurm"] = ["engine=slurm", "engine.cluster=local"]
    check_scores(tmp_path, launcher, engines)
    capsys.readouterr()
    again = ["resume=ray", f"launcher={launcher}"]
    assert main(again) == 2  # the folder doesn't choose where trials run
    assert f"add {' '.join(told)}" in capsys.readouterr().err.replace("'", "")
    assert main([*again, "engine=local"]) == 0


def test_what_no_machine_has_is_told(cluster: Any, tmp_path: Path) -> None:
    greedy = RayEngine(address=cluster.address, gpus=1)
    with pytest.raises(PollinateError, match=r"engine.gpus=1 are more than any machine of Ray has"):
        greedy.open(tmp_path)


def test_an_order_that_lost_its_last_machine_is_told(
    engine: RayEngine, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.engines.ray.LOOK", 0.1)
    engine._task = ray.remote(supervise).options(num_gpus=1)  # as if a machine had had one
    engine.gpus = 1
    scheduler, _ = run(plan(seeds=[0], single_task=False), tmp_path / "study", engine=engine)
    (work,) = scheduler.works
    assert work.message is not None
    assert "more than any machine of Ray has" in work.message


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("head", "engine.address must be HOST:PORT"),
        ("127.0.0.1:1", r"engine.address=127.0.0.1:1 can't be reached: .*refused; start Ray there"),
        ("nobody.invalid:6379", r"engine.address=nobody.invalid:6379 can't be reached: "),
    ],
)
def test_an_address_where_nobody_is_is_told_at_once(address: str, message: str) -> None:
    begun = time.monotonic()
    with pytest.raises(PollinateError, match=message):
        RayEngine(address=address).check()
    assert time.monotonic() - begun < 3


def test_what_listens_and_is_not_ray_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.engines.ray.REACH", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(OSError, match="timed out"):
            greet(*silent.getsockname())

        def answer() -> None:
            client, _ = silent.accept()
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            client.close()

        thread = threading.Thread(target=lambda: [answer(), answer()])
        thread.start()
        with pytest.raises(OSError, match=r"isn't Ray|reset"):
            [greet(*silent.getsockname()) for _ in range(2)]  # the first one was kept waiting
        thread.join()


@pytest.mark.parametrize("options", [{"cpus": 0}, {"gpus": -1}])
def test_numbers_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="cpus must be > 0 and"):
        RayEngine(**options)
