"""A real MLflow server that can be reached late, and not for a while."""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
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


@pytest.fixture
def server(database: str) -> Iterator[int]:
    """The port of a server, whose start takes seconds."""
    port = free_port()
    process = subprocess.Popen(
        ui_command(database, port),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        start_new_session=True,
    )
    try:
        wait_for(lambda: answers(port), 60)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Door:
    """The way to a server: to who asks at ``port``, the server is dead while the door is shut."""

    def __init__(self, server: int) -> None:
        self.port = free_port()
        self._server = server
        self._sockets: list[socket.socket] = []

    def open(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port))
        self._sockets.append(listener)
        threading.Thread(target=self._accept, args=[listener], daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # it is shut
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                self._sockets += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=pass_on, args=pair, daemon=True).start()

    def shut(self) -> None:
        """Cut what goes through, too."""
        while self._sockets:
            with self._sockets.pop() as end, suppress(OSError):  # the other side was faster
                end.shutdown(socket.SHUT_RDWR)


def pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(65_536):
            sink.sendall(content)
        sink.shutdown(socket.SHUT_WR)


@pytest.mark.slow
@pytest.mark.usefixtures("warm_senders")
def test_nothing_is_lost_whatever_the_server_does(
    tmp_path: Path,
    server: int,
    model_folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    door = Door(server)
    tracker = MLflowRunLogger(
        f"http://127.0.0.1:{door.port}", "exp", "shop", 60.0,
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
        door.open()
        wait_for(lambda: "server is back" in caplog.text, 60)
        client = MlflowClient(f"http://127.0.0.1:{door.port}")
        run_id = str(tracker.run_id)
        assert len(client.get_metric_history(run_id, "a")) == 100
        door.shut()
        log(100, 200)
        wait_for(lambda: caplog.text.count("not reachable") == 2)
        door.open()
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
        door.shut()


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
