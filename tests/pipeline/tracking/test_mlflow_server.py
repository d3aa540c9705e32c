"""A real MLflow server that starts late, dies and comes back."""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline import sync
from pipeline.configuration.composition import compose
from pipeline.tracking.loggers import MLflowRunLogger
from pipeline.ui import ui_command
from pollinate.errors import PollinateError, UsageError
from tests.pipeline.tracking.test_loggers import wait_for


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    try:
        with closing(urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)):
            return True
    except OSError:
        return False


class Server:
    def __init__(self, database: str, port: int) -> None:
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._command = ui_command(database, port)

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            start_new_session=True,
        )
        wait_for(lambda: answers(self.port), 60)

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.mark.slow
def test_nothing_is_lost_whatever_the_server_does(
    tmp_path: Path,
    database: str,
    model_folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    server = Server(database, free_port())
    tracker = MLflowRunLogger(
        f"http://127.0.0.1:{server.port}", "exp", "shop", 60.0,
        run_dir=tmp_path / "run", run_name="one", resume=False,
    )  # fmt: skip

    def log(first: int, last: int) -> None:
        for step in range(first, last):
            tracker.log_metrics({"a": 1 / (step + 1), "b": math.nan}, step)

    try:
        tracker.log_params({"empty": "", "trunk:experts@2": 3})
        tracker.set_tags({"empty": "", "note:1": "x"})
        log(0, 100)  # no server yet
        wait_for(lambda: "not reachable" in caplog.text)
        server.start()
        wait_for(lambda: "server is back" in caplog.text, 60)
        client = MlflowClient(f"http://127.0.0.1:{server.port}")
        run_id = str(tracker.run_id)
        assert len(client.get_metric_history(run_id, "a")) == 100
        server.kill()
        log(100, 200)
        wait_for(lambda: caplog.text.count("not reachable") == 2)
        server.start()
        log(200, 250)
        tracker.log_artifact(tmp_path / "run" / "metrics.jsonl", "history")
        shutil.copytree(model_folder, tmp_path / "run" / "model")
        tracker.log_model(tmp_path / "run" / "model", "model")
        tracker.close("finished")
        history = client.get_metric_history(run_id, "a")
        assert Counter((m.step, m.value) for m in history) == Counter(
            (step, 1 / (step + 1)) for step in range(250)
        )
        assert len(client.get_metric_history(run_id, "b")) == 250
        run = client.get_run(run_id)
        assert run.info.status == "FINISHED"
        assert "history" in [item.path for item in client.list_artifacts(run_id)]
        assert run.data.params == {"empty": "", "trunk_experts_2": "3"}
        assert (run.data.tags["empty"], run.data.tags["note_1"]) == ("", "x")
        [version] = client.search_model_versions("name = 'shop'")
        assert version.run_id == run_id
        [output] = run.outputs.model_outputs
        assert version.source == f"models:/{output.model_id}"
        listed = client.get_logged_model(output.model_id)
        assert listed.tags["mlflow.modelVersions"] == '[{"name": "shop", "version": 1}]'
    finally:
        server.kill()


def test_ui_needs_a_database_and_a_free_port(tmp_path: Path, database: str) -> None:
    with pytest.raises(PollinateError, match="no database at"):
        ui_command(f"sqlite:///{tmp_path}/none.db", free_port())
    with pytest.raises(UsageError, match="must be a database"):
        ui_command("http://host", free_port())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PollinateError, match=f"port {port} is taken"):
            ui_command(database, port)
    command: list[Any] = ui_command(database, free_port())
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--workers") + 1] == "1"


def test_importing_the_commands_is_cheap() -> None:
    code = (
        "import sys, pipeline.ui, pipeline.sync\n"
        "assert not {'mlflow', 'torch', 'lightning'} & set(sys.modules)\n"
    )
    root = str(Path(__file__).parents[3])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": root})


def test_commands_say_what_they_expect(tmp_path: Path) -> None:
    assert compose("ui", ["port=81"])["port"] == 81
    with pytest.raises(UsageError, match="port"):
        compose("ui", ["port=x"])
    for neither in ([], ["run_dir=a", "runs=b"]):
        with pytest.raises(UsageError, match="expected run_dir=PATH or runs=PATH"):
            sync.run(compose("sync", neither), [])
    with pytest.raises(PollinateError, match="no run folders below"):
        sync.run(compose("sync", [f"runs={tmp_path}"]), [])
    with pytest.raises(PollinateError, match="no history in"):
        sync.run(compose("sync", [f"run_dir={tmp_path}"]), [])
