"""The loggers with their real sender process."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from mlflow import MlflowClient
from torch.utils.data import DataLoader

import pipeline.tracking.background as process
from pipeline.sync import sync
from pipeline.tracking.journals import read_lines, read_points
from pipeline.tracking.loggers import LocalRunLogger, MLflowRunLogger
from pipeline.tracking.sender import SYSTEM
from pollinate.errors import PollinateError, UsageError
from tests.pipeline.tracking.logging_processes import log_and_die, log_locally
from tests.sessions import call
from tests.warm_senders import WarmSenders

pytestmark = pytest.mark.usefixtures("warm_senders")


def make(uri: str, run_dir: Path, resume: bool = False, seconds: float = 60.0) -> MLflowRunLogger:
    return MLflowRunLogger(
        uri, "exp", None, seconds, run_dir=run_dir, run_name="one", resume=resume
    )


def wait_for(condition: Any, seconds: float = 30.0) -> None:
    pause = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        pause.wait(0.05)
    raise AssertionError("it did not happen in time")


def test_resumed_run_is_the_same_without_gap_or_repetition(tmp_path: Path, database: str) -> None:
    client = MlflowClient(database)
    tracker = make(database, tmp_path / "run", seconds=0.01)
    tracker.log_hyperparams({"lr": 0.1, "hub": {"token": "hidden"}})
    (tmp_path / "run" / "note.txt").write_text("hello")
    tracker.log_artifact(tmp_path / "run" / "note.txt", "notes")
    tracker.log_dataset("shop", "d1", "/shop.csv", {"train": 8}, "training")
    for step in range(10):
        tracker.log_metrics({"train/digit/loss": 1 / (step + 1)}, step)
    wait_for(lambda: tracker.run_id is not None)
    wait_for(lambda: (tmp_path / "run" / SYSTEM).read_text())
    assert client.get_run(str(tracker.run_id)).info.status == "RUNNING"
    tracker.finalize("success")  # Lightning's, after fit: the run goes on
    tracker.log_metrics({"test/digit/score": 0.5}, 10)
    tracker.close("interrupted")
    tracker.close("interrupted")
    run_id = str(tracker.run_id)
    first = client.get_run(run_id)
    assert first.info.status == "KILLED"
    assert first.data.params == {"lr": "0.1", "hub.token": "***"}
    assert first.data.tags["pollinate.run_dir"] == str(tmp_path / "run")
    assert {key for key in first.data.metrics if key.startswith("system/")} >= {
        "system/cpu_utilization_percentage",
        "system/system_memory_usage_megabytes",
        "system/process_memory_usage_megabytes",
    }
    assert [item.path for item in client.list_artifacts(run_id, "notes")] == ["notes/note.txt"]

    resumed = make(database, tmp_path / "run", resume=True)
    assert resumed.run_id == run_id
    wait_for(lambda: client.get_run(run_id).info.status == "RUNNING")
    for step in range(6, 15):
        resumed.log_metrics({"train/digit/loss": 1 / (step + 1)}, step)
    assert resumed.point_count == 16
    resumed.close("finished")
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run_id, "train/digit/loss")
    expected = Counter((step, 1 / (step + 1)) for step in range(15))
    assert Counter((metric.step, metric.value) for metric in history) == expected
    assert len(client.search_runs([run.info.experiment_id])) == 1


@pytest.mark.slow
def test_points_before_a_kill_arrive_and_the_run_is_marked(tmp_path: Path, database: str) -> None:
    run_dir = tmp_path / "run"
    assert call(log_and_die, database, str(run_dir), cwd=tmp_path) == -signal.SIGKILL
    client = MlflowClient(database)

    def is_marked() -> bool:
        experiment = client.get_experiment_by_name("exp")
        found = [] if experiment is None else client.search_runs([experiment.experiment_id])
        return [run.info.status for run in found] == ["KILLED"]

    wait_for(is_marked)
    run_id = json.loads((run_dir / "tracking.json").read_text())["run_id"]
    assert len(client.get_metric_history(run_id, "a")) == 1000


def test_server_that_never_answers_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Requests go into a socket that nobody reads, from a process that may hang."""
    import socket

    monkeypatch.setattr(process, "_PATIENCE", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as hole:
        uri = f"http://me:geheim@127.0.0.1:{hole.getsockname()[1]}"
        tracker = make(uri, tmp_path / "run")
        connection, _ = hole.accept()  # the sender hangs in its first request from here on
        with connection:
            for step in range(1000):
                tracker.log_metrics({"a": 1.0}, step)
            tracker.flush()
            assert tracker.point_count == 1000
            assert len(list(read_points(tmp_path / "run" / "metrics.jsonl"))) == 1000
            assert tracker.run_id is None
            tracker.close("finished")
    assert "python -m pipeline.sync run_dir=" in caplog.text
    stored = "".join(p.read_text() for p in (tmp_path / "run").iterdir() if p.is_file())
    assert "geheim" not in stored + caplog.text
    assert "not reachable" not in caplog.text  # it hung all the time


def test_dead_server_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(process, "_PATIENCE_DOWN", 0.5)
    tracker = make("http://127.0.0.1:9", tmp_path / "run")
    wait_for(lambda: "not reachable" in caplog.text)
    tracker.log_metrics({"a": 1.0}, 0)
    tracker.close("failed")
    assert caplog.text.count("not reachable") == 1
    assert "lacks a part of this run" in caplog.text
    last = (tmp_path / "run" / "operations.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["status"] == "FAILED"


def test_a_sender_imports_no_torch(warm_senders: WarmSenders) -> None:
    """That would double what its start takes from the training's processors."""
    assert "mlflow" in warm_senders.modules
    assert not {"torch", "lightning"} & warm_senders.modules


def test_other_ranks_do_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    tracker = make("http://127.0.0.1:9", tmp_path / "run")
    tracker.log_metrics({"a": 1.0}, 0)
    tracker.log_params({"a": 1})
    tracker.flush()
    tracker.close("finished")
    assert (tracker.run_id, tracker.point_count) == (None, 0)
    assert not (tmp_path / "run").exists()


def test_first_process_of_another_node_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NODE_RANK", "1")
    LocalRunLogger(run_dir=tmp_path / "run", run_name="one", resume=False)
    assert not (tmp_path / "run").exists()


def test_local_tracker_writes_journals_without_mlflow(tmp_path: Path) -> None:
    assert call(log_locally, str(tmp_path), cwd=tmp_path) == 0
    assert [point.key for point in read_points(tmp_path / "metrics.jsonl")] == ["a"]
    assert "FINISHED" in (tmp_path / "operations.jsonl").read_text()


def test_used_folder_needs_resume(tmp_path: Path) -> None:
    LocalRunLogger(run_dir=tmp_path, run_name="one", resume=False).close("finished")
    with pytest.raises(PollinateError, match="already holds a run; use resume=last"):
        LocalRunLogger(run_dir=tmp_path, run_name="one", resume=False)


@pytest.mark.parametrize("uri", ["runs/mlflow.db", "sqlite://", "sqlite:///:memory:", ""])
def test_wrong_addresses(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tracking\.uri must"):
        make(uri, tmp_path / "run")


def test_wrong_status(tmp_path: Path) -> None:
    tracker = LocalRunLogger(run_dir=tmp_path, run_name="one", resume=False)
    with pytest.raises(UsageError, match="finished, interrupted, failed, got 'done'"):
        tracker.close("done")


def test_a_run_is_part_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_PATIENCE_DOWN", 0.0)
    tracker = MLflowRunLogger(
        "http://127.0.0.1:9", "exp", None, 60.0, "abc", run_dir=tmp_path, run_name="a", resume=False
    )
    tracker.close("finished")
    written = (tmp_path / "operations.jsonl").read_text()
    assert '"mlflow.parentRunId":"abc"' in written.replace(": ", ":")


class Line(LightningModule):
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        loss = self.layer(batch).square().mean()
        self.log("train/line/loss", loss)
        return loss

    def test_step(self, batch: Any, _: int) -> None:
        self.log("test/line/loss", self.layer(batch).square().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # Lightning with torch 2.14
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_fit_and_test_write_one_history(tmp_path: Path, monkeypatch: Any) -> None:
    synced: list[int] = []
    tracker = LocalRunLogger(run_dir=tmp_path, run_name="one", resume=False)
    monkeypatch.setattr(tracker._points, "sync", lambda: synced.append(1))
    trainer = Trainer(
        max_steps=6, logger=tracker, accelerator="cpu", log_every_n_steps=2,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    data = DataLoader([torch.ones(1)] * 6, num_workers=0)
    model = Line(rate=0.1)
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    tracker.close("finished")
    history = [(point.key, point.step) for point in read_points(tmp_path / "metrics.jsonl")]
    assert [item for item in history if item[0] != "epoch"] == [
        ("train/line/loss", 1), ("train/line/loss", 3), ("train/line/loss", 5),
        ("test/line/loss", 6),
    ]  # fmt: skip
    operations = [record for record, _ in read_lines(tmp_path / "operations.jsonl")]
    assert {"rate": "0.1"} in [operation.get("params") for operation in operations]
    assert len(synced) <= 4  # never per step: waiting for the disk takes milliseconds


def test_a_killed_sender_is_started_again(tmp_path: Path, database: str) -> None:
    tracker = make(database, tmp_path / "run")
    tracker.log_metrics({"loss": 1.0}, 1)
    for _ in range(2):
        before = tracker._sender._process.pid
        os.kill(before, signal.SIGKILL)
        wait_for(lambda before=before: tracker._sender._process.pid != before)  # type: ignore[misc]  # a default
    tracker.log_metrics({"loss": 0.5}, 2)
    tracker.close("finished")
    run = MlflowClient(database).get_run(str(tracker.run_id))
    history = MlflowClient(database).get_metric_history(run.info.run_id, "loss")
    assert [(one.step, one.value) for one in history] == [(1, 1.0), (2, 0.5)]
    assert run.info.status == "FINISHED"


def test_a_sender_that_always_dies_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-S", "-E", "-c", "print(chr(123))"]  # half an event
        return subprocess.Popen(command, stdin=-1, stdout=-1, text=True)

    monkeypatch.setattr(process, "_start", start)
    tracker = make("sqlite:///gone.db", tmp_path / "run")
    for step in range(100):
        tracker.log_metrics({"loss": 1.0}, step)
    tracker.close("finished")
    assert [one.getMessage().partition(";")[0] for one in caplog.records] == [
        "tracking has stopped"
    ]
    assert len(list(read_points(tmp_path / "run" / "metrics.jsonl"))) == 100


def test_a_copied_folder_is_another_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def start(folder: Path, resume: bool) -> tuple[str, str]:
        logger = LocalRunLogger(run_dir=folder, run_name="one", resume=resume)
        logger.close("finished")
        places = [
            r["tags"] for r, _ in read_lines(folder / "operations.jsonl") if r["op"] == "tags"
        ]
        return logger._operations.key, places[-1].get("pollinate.run_dir", "")

    first, copied, moved = (tmp_path / name for name in ("first", "copied", "moved"))
    key, _ = start(first, resume=False)
    shutil.copytree(first, copied)
    (copied / "tracking.json").write_text("{}")
    with pytest.raises(PollinateError, match=rf"{copied} is a copy of {first}, whose run"):
        sync(copied, "sqlite:///x.db")
    other, place = start(copied, resume=True)
    assert other != key and place == str(copied)
    assert not (copied / "tracking.json").exists()
    assert "becomes a run of its own" in caplog.text
    assert start(copied, resume=True)[0] == other
    assert start(first, resume=True)[0] == key
    first.rename(moved)
    assert start(moved, resume=True) == (key, str(moved))
