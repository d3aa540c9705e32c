"""What looks after a process on another machine: files that must be seen, orders that come late."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.engines.engine import Order, Outcome
from pipeline.engines.local import LocalEngine
from pipeline.engines.process import ProcessLock, failure_reason, is_taken, lock_holder
from pipeline.engines.remote import RemoteHandle, Supervisor, carried

SLOW = (
    "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); print('up', flush=True)"
)


@pytest.fixture
def order(tmp_path: Path) -> Order:
    (tmp_path / "one.json").write_text(json.dumps({"session": "now"}))
    names = {name: tmp_path / f"one.{name}" for name in ("log", "lock", "stop")}
    return Order(
        "trial one",
        "now",
        ("python", "-S", "-c", "print('new')"),
        ("python", "-S", "-c", "print('resumed')"),
        begun=tmp_path / "one" / "config.yaml",
        folder=tmp_path,
        ledger=tmp_path / "one.json",
        summary=tmp_path / "one" / "summary.json",
        **names,
    )


def slow(order: Order) -> Order:
    return replace(order, command=(sys.executable, "-S", "-c", f"{SLOW}; time.sleep(60)"))


def test_what_an_earlier_session_left_chooses_the_command(order: Order) -> None:
    outcome = Supervisor().run(order)
    assert (outcome.code, outcome.output) == (0, "new\n")
    order.begun.parent.mkdir()
    order.begun.touch()
    outcome = Supervisor(Outcome(143, 5.0, 10**12)).run(order)
    assert outcome.output == "resumed\n"
    assert outcome.seconds > 5.0
    assert outcome.memory == 10**12
    assert order.log.read_text() == "new\nresumed\n"


def test_one_that_was_begun_again_meanwhile_runs_no_more(order: Order) -> None:
    order.ledger.write_text(json.dumps({"session": "later"}))
    outcome = Supervisor().run(order)
    assert outcome.taken
    assert outcome.message == "trial one was begun again meanwhile"
    assert not order.log.exists()


def test_one_that_a_process_of_a_killed_study_has_finished_isnt_run(order: Order) -> None:
    order.summary.parent.mkdir()
    order.summary.write_text(json.dumps({"status": "finished"}))
    assert Supervisor().run(order) == Outcome(code=0)
    assert not order.log.exists()
    order.summary.write_text("{")  # torn
    assert Supervisor().run(order).output == "new\n"


def test_one_that_another_process_is_at_is_left_to_it(order: Order) -> None:
    handle = LocalEngine().submit(slow(order))
    outcome = Supervisor().run(order)
    assert outcome.taken
    holder = lock_holder(order.lock)
    assert holder is not None
    assert holder.session == "now"
    assert outcome.message == f"{holder} is at work on trial one"
    handle.kill()
    while handle.poll() is None:
        time.sleep(0.01)
    assert not is_taken(order.lock)


@pytest.mark.parametrize("lacking", ["ledger", "folder"])
def test_files_that_another_machine_doesnt_see_are_told(lacking: str, order: Order) -> None:
    unseen = {lacking: order.folder / "elsewhere" / "x"}
    outcome = Supervisor().run(replace(order, **unseen))
    assert outcome.message is not None
    assert "a folder that all machines share" in outcome.message
    assert outcome.code is None
    assert not outcome.lost


def test_a_program_that_isnt_there_is_told(order: Order) -> None:
    outcome = Supervisor().run(replace(order, command=("srunn", "x")))
    said = failure_reason(outcome.code, outcome.output) if outcome.output else outcome.message
    assert said == "srunn can't be started: No such file or directory"
    assert not is_taken(order.lock)


def test_it_is_asked_to_stop_by_a_file_or_by_an_interrupt(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    threading.Timer(0.5, order.stop.touch).start()
    assert Supervisor().run(slow(order), order.stop.exists).code == 7

    def interrupt() -> bool:
        if "up" not in order.log.read_text().partition("up")[2] or told:
            return False
        told.append(True)
        raise KeyboardInterrupt

    told: list[bool] = []
    monkeypatch.setattr("pipeline.engines.remote.LOOK", 0.1)
    assert Supervisor().run(slow(order), interrupt).code == 7


def test_what_a_process_takes_along(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    monkeypatch.setenv("PYTHONPATH", "own")
    monkeypatch.setenv("POLLINATE_RUN_DIR", "/another/run")
    monkeypatch.setenv("SECRET_OF_THIS_MACHINE", "x")
    found = carried(replace(order, variables={"OMP_NUM_THREADS": "3"})).variables
    assert found["MLFLOW_TRACKING_URI"] == "http://server:5000"
    assert found["OMP_NUM_THREADS"] == "3"
    assert str(Path.cwd() / "own") in found["PYTHONPATH"].split(os.pathsep)
    assert not {"POLLINATE_RUN_DIR", "SECRET_OF_THIS_MACHINE"} & set(found)


def test_seconds_count_from_the_beginning_of_this_session(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Waiting(RemoteHandle):
        asked = 0

        def outcome(self) -> None:
            return None

        def ask(self) -> None:
            self.asked += 1

        def kill(self) -> None:
            raise AssertionError

    monkeypatch.setattr("pipeline.engines.remote.LOOK", 0.0)
    lock = ProcessLock(order.lock)
    assert lock.acquire()
    lock.sign(session="earlier")
    handle = Waiting(order)
    assert handle.seconds is None
    lock.sign(session="now")
    assert handle.seconds is not None
    assert 0 <= handle.seconds < 5
    handle.stop()
    handle.stop()
    assert handle.asked == 1
    order.lock.write_text('{"process": 1, "host": ')  # a look while it is written
    assert lock_holder(order.lock) is None
    lock.release()
