from __future__ import annotations

import io
import json
import threading
from pathlib import Path

import pytest

from pipeline.tracking import worker
from pipeline.tracking.journals import MetricJournal, OperationJournal
from pipeline.tracking.sender import Sender, load_cursor, stored_run_id
from tests.pipeline.tracking.fakes import FakeServer, Reports


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


def make_sender(run_dir: Path, server: FakeServer, reports: Reports | None = None) -> Sender:
    reports = Reports() if reports is None else reports
    return Sender(run_dir, server, load_cursor(run_dir, "uri", "exp"), reports)


def log(run_dir: Path, first: int, last: int) -> None:
    journal = MetricJournal(run_dir / "metrics.jsonl")
    for step in range(first, last):
        journal.log({"a": step, "b": -step}, step)
    journal.close()


def steps(server: FakeServer, key: str = "a") -> list[int]:
    return [point.step for point in server.points if point.key == key]


def test_only_what_is_new_is_sent(tmp_path: Path, server: FakeServer) -> None:
    sender = make_sender(tmp_path, server)
    log(tmp_path, 0, 3)
    sender.send()
    log(tmp_path, 3, 5)
    sender.send()
    sender.send()
    make_sender(tmp_path, server).send()  # a later process
    assert steps(server) == list(range(5))
    assert server.runs == 1
    assert stored_run_id(tmp_path) == "run1"
    assert sender.unsent_bytes() == 0


@pytest.mark.parametrize("calls", [0, 1, 2, 3])
def test_nothing_is_lost_when_the_server_dies_and_comes_back(
    tmp_path: Path, server: FakeServer, calls: int
) -> None:
    log(tmp_path, 0, 1200)
    sender = make_sender(tmp_path, server)
    server.fail_after = calls
    with pytest.raises(ConnectionError):
        sender.send()
    server.fail_after, server.is_down = None, False
    log(tmp_path, 1200, 1300)
    sender.send()
    assert sorted(set(steps(server))) == list(range(1300))


def test_refused_point_does_not_hold_up_the_others(tmp_path: Path, server: FakeServer) -> None:
    log(tmp_path, 0, 20)
    journal = MetricJournal(tmp_path / "metrics.jsonl")
    journal.log({"bad": 1.0, "good": 2.0}, 20)
    log(tmp_path, 21, 30)
    server.refused = {"bad"}
    reports = Reports()
    make_sender(tmp_path, server, reports).send()
    assert steps(server) == [*range(20), *range(21, 30)]
    assert steps(server, "good") == [20]
    assert [details["what"] for event, details in reports if event == "refused"] == ["bad"]


def test_status_comes_after_the_points(tmp_path: Path, server: FakeServer) -> None:
    OperationJournal(tmp_path / "operations.jsonl").add("status", status="FINISHED")
    log(tmp_path, 0, 3)
    server.fail_after = 1  # only open_run works
    with pytest.raises(ConnectionError):
        make_sender(tmp_path, server).send()
    assert server.operations == []


def test_file_that_changed_twice_is_sent_once(tmp_path: Path, server: FakeServer) -> None:
    journal = OperationJournal(tmp_path / "operations.jsonl")
    for name in ("best.ckpt", "last.ckpt", "best.ckpt"):
        journal.add("artifact", path=name, folder="checkpoints")
    make_sender(tmp_path, server).send()
    assert [operation["path"] for operation in server.operations] == ["last.ckpt", "best.ckpt"]


def test_another_server_gets_the_whole_history(tmp_path: Path, server: FakeServer) -> None:
    log(tmp_path, 0, 3)
    make_sender(tmp_path, server).send()
    other = FakeServer()
    Sender(tmp_path, other, load_cursor(tmp_path, "other", "exp"), Reports()).send()
    assert steps(other) == [0, 1, 2]


def test_torn_cursor_means_starting_again(tmp_path: Path, server: FakeServer) -> None:
    log(tmp_path, 0, 3)
    (tmp_path / "tracking.json").write_text('{"uri": "ur')
    make_sender(tmp_path, server).send()
    assert steps(server) == [0, 1, 2]


class Pipe(io.TextIOBase):
    """An input whose end the test decides."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.more = threading.Event()

    def readline(self, size: int | None = -1, /) -> str:
        self.more.wait()
        return self.lines.pop(0) if self.lines else ""


def events_of(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(worker, "_events", stream)
    return stream


def names(stream: io.StringIO) -> list[str]:
    return [json.loads(line)["event"] for line in stream.getvalue().splitlines()]


def serve(sender: Sender, server: FakeServer, *lines: str) -> None:
    pipe = Pipe()
    pipe.lines += lines
    pipe.more.set()
    worker.serve(sender, server, worker.Control(pipe), interval=0.01)


def test_close_sends_the_rest_and_ends(
    tmp_path: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = events_of(monkeypatch)
    log(tmp_path, 0, 3)
    OperationJournal(tmp_path / "operations.jsonl").add("status", status="FINISHED")
    serve(make_sender(tmp_path, server), server, "close\n")
    assert steps(server) == [0, 1, 2]
    assert names(stream)[-1] == "closed"
    assert server.statuses == []  # the journal's own status counts


def test_killed_run_is_sent_and_marked(
    tmp_path: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    events_of(monkeypatch)
    log(tmp_path, 0, 3)
    serve(make_sender(tmp_path, server), server)  # the input ends without a word
    assert steps(server) == [0, 1, 2]
    assert server.statuses == ["KILLED"]


def test_run_that_ended_just_before_the_kill_keeps_its_status(
    tmp_path: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    events_of(monkeypatch)
    journal = OperationJournal(tmp_path / "operations.jsonl")
    journal.start("one", {})
    journal.add("status", status="FINISHED")
    serve(make_sender(tmp_path, server), server)
    assert server.operations[-1]["status"] == "FINISHED"
    assert server.statuses == []


def test_orphan_gives_up_on_a_dead_server_and_hides_passwords(
    tmp_path: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = events_of(monkeypatch)
    server.is_down = True
    serve(make_sender(tmp_path, server), server)
    assert set(names(stream)) == {"down"}
    assert "pw" not in stream.getvalue()


def test_server_that_comes_back_gets_everything(
    tmp_path: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = events_of(monkeypatch)
    monkeypatch.setattr(worker, "_pause", lambda *_: 0.01)
    server.is_down = True
    pipe = Pipe()
    sender = make_sender(tmp_path, server)
    thread = threading.Thread(
        target=worker.serve, args=(sender, server, worker.Control(pipe), 0.01)
    )
    log(tmp_path, 0, 3)
    thread.start()
    while "down" not in stream.getvalue():
        threading.Event().wait(0.01)
    log(tmp_path, 3, 6)
    server.is_down = False
    pipe.lines.append("close\n")
    pipe.more.set()
    thread.join(10)
    assert steps(server) == list(range(6))
    assert names(stream)[-2:] == ["up", "closed"]


def test_pauses_grow_to_a_minute() -> None:
    pauses = [worker._pause(failures, False, 5.0) for failures in range(9)]
    assert pauses == [5, 2, 4, 8, 16, 32, 60, 60, 60]
    assert worker._pause(8, True, 5.0) == 0.5


def test_size_of_an_upload_is_told(tmp_path: Path, server: FakeServer) -> None:
    (tmp_path / "model" / "data").mkdir(parents=True)
    (tmp_path / "model" / "data" / "weights").write_bytes(b"x" * 70)
    (tmp_path / "last.ckpt").write_bytes(b"x" * 50)
    journal = OperationJournal(tmp_path / "operations.jsonl")
    journal.add("artifact", path="last.ckpt", folder="")
    journal.add("artifact", path="missing", folder="")
    journal.add("model", folder="model", name="m", register=None, step=0, key="k")
    journal.add("tags", tags={"a": "b"})
    reports = Reports()
    make_sender(tmp_path, server, reports).send()
    assert [d["bytes"] for event, d in reports if event == "upload"] == [50, 0, 70]
