"""The journals against a real MLflow database, in this process."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pytest
from mlflow import MlflowClient
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

from pipeline.sync import sync
from pipeline.tracking.journals import MetricJournal, OperationJournal, read_points
from pipeline.tracking.mlflow_lookup import find_run
from pipeline.tracking.mlflow_server import MlflowServer
from pipeline.tracking.sender import (
    RunDeletedError,
    Sender,
    SenderSettings,
    load_cursor,
    stored_run_id,
)
from pollinate.errors import PollinateError
from tests.pipeline.tracking.fakes import Reports


class WrittenRun:
    """A run's journals and a way to send them."""

    def __init__(self, folder: Path, uri: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.uri = folder, uri
        self.points = MetricJournal(folder / "metrics.jsonl")
        self.operations = OperationJournal(folder / "operations.jsonl")
        self.operations.start("one", {"uri": uri, "experiment": "exp"})
        self.reports = Reports()

    def send(self) -> str:
        key, start = self.operations.key, self.operations.start_ms
        settings = SenderSettings(self.uri, "exp", str(self.folder), "one", key, "me", start)
        cursor = load_cursor(self.folder, self.uri, "exp")
        Sender(self.folder, MlflowServer(settings), cursor, self.reports).send()
        assert cursor.run_id is not None
        return cursor.run_id

    def log(self, first: int, last: int) -> None:
        for step in range(first, last):
            self.points.log({"train/digit/loss": 1 / (step + 1)}, step)


@pytest.fixture
def run(tmp_path: Path, database: str) -> WrittenRun:
    return WrittenRun(tmp_path / "run", database)


def history(uri: str, run_id: str, key: str = "train/digit/loss") -> list[tuple[int, float]]:
    found = MlflowClient(uri).get_metric_history(run_id, key)
    return sorted((metric.step, metric.value) for metric in found)


@pytest.mark.parametrize("lost", ["nothing", "offsets", "everything"])
def test_points_arrive_exactly_once_even_if_the_cursor_is_lost(run: WrittenRun, lost: str) -> None:
    run.log(0, 1100)
    run_id = run.send()
    if lost == "everything":
        (run.folder / "tracking.json").unlink()
    if lost == "offsets":
        cursor = load_cursor(run.folder, run.uri, "exp")
        cursor.offsets = {}
        cursor.save()
    run.log(1100, 1200)
    assert run.send() == run_id
    assert history(run.uri, run_id) == [(step, 1 / (step + 1)) for step in range(1200)]


def test_values_that_are_not_finite(run: WrittenRun) -> None:
    for _ in range(2):
        run.points.log({"a": math.inf, "b@1": math.nan, "c": -math.inf}, 0)
        run_id = run.send()
        (run.folder / "tracking.json").unlink()
    for key in ("a", "b_1", "c"):
        [(step, value)] = history(run.uri, run_id, key)
        assert step == 0
        assert math.isnan(value)
    assert [p.value for p in read_points(run.folder / "metrics.jsonl")][::2] == [
        math.inf,
        -math.inf,
    ]


def test_params_tags_and_data_sets(run: WrittenRun) -> None:
    long = "x" * (MAX_PARAM_VAL_LENGTH + 7)
    run.operations.params({f"p{i}": i for i in range(250)} | {"long": long, "trunk:k@1": "v"})
    run.operations.tags({"host": "h"})
    data: dict[str, Any] = {
        "name": "shop", "digest": "d" * 50, "source": "/data/shop.csv", "context": "training",
        "rows": {"train": 8, "valid": 2}, "schema": {"mlflow_colspec": []},
    }  # fmt: skip
    run.operations.add("dataset", **data)
    run_id = run.send()
    (run.folder / "tracking.json").unlink()
    run.send()  # again, as after a lost answer
    found = MlflowClient(run.uri).get_run(run_id)
    assert len(found.data.params) == 252
    assert found.data.params["long"] == long[:MAX_PARAM_VAL_LENGTH]
    assert mlflow.artifacts.load_dict(f"runs:/{run_id}/params.json")["long"] == long
    assert found.data.tags["host"] == "h"
    assert found.info.run_name == "one"
    [entry] = found.inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.source_type) == ("shop", "local")
    assert entry.dataset.profile == '{"train_rows": 8, "valid_rows": 2}'
    assert entry.tags[0].value == "training"


def test_a_changed_parameter_is_reported_and_the_rest_arrives(run: WrittenRun) -> None:
    run.operations.add("params", params={"a": "1"})
    run.operations.add("params", params={"a": "2", "b": "3"})
    run_id = run.send()
    assert MlflowClient(run.uri).get_run(run_id).data.params == {"a": "1", "b": "3"}
    refused = [details["error"] for event, details in run.reports if event == "refused"]
    assert refused == ["parameters a"]


def test_artifacts_lie_beside_the_database(run: WrittenRun, tmp_path: Path) -> None:
    (run.folder / "plots").mkdir()
    (run.folder / "plots" / "a.png").write_bytes(b"png")
    run.operations.add("artifact", path="plots/a.png", folder="plots")
    run.operations.add("artifact", path="missing.txt", folder="")
    run_id = run.send()
    root = tmp_path / "store" / "artifacts"
    assert (root / run_id / "artifacts" / "plots" / "a.png").read_bytes() == b"png"
    assert "missing.txt no longer exists" in str(run.reports)


def test_status_follows_the_run(run: WrittenRun) -> None:
    client = MlflowClient(run.uri)
    run_id = run.send()
    assert client.get_run(run_id).info.status == "RUNNING"
    run.operations.add("status", status="KILLED")
    run.send()
    assert client.get_run(run_id).info.status == "KILLED"
    resumed = WrittenRun(run.folder, run.uri)
    assert resumed.send() == run_id
    assert client.get_run(run_id).info.status == "RUNNING"
    resumed.operations.add("status", status="FINISHED")
    resumed.send()
    assert client.get_run(run_id).info.status == "FINISHED"
    assert client.get_run(run_id).info.end_time is not None


def test_deleted_run_is_left_alone(run: WrittenRun) -> None:
    run_id = run.send()
    MlflowClient(run.uri).delete_run(run_id)
    run.log(0, 3)
    with pytest.raises(RunDeletedError, match=run_id):
        run.send()


def test_lost_database_gets_the_whole_run_again(run: WrittenRun, empty_database: Path) -> None:
    run.log(0, 3)
    first = run.send()
    other = run.folder.parent / "other.db"
    other.write_bytes(empty_database.read_bytes())
    cursor = load_cursor(run.folder, run.uri, "exp")
    cursor.uri = run.uri = f"sqlite:///{other}"
    cursor.save()
    second = run.send()
    assert second != first
    assert len(history(run.uri, second)) == 3


def test_model_is_registered_once_and_loads(run: WrittenRun, model_folder: Path) -> None:
    import pandas as pd

    shutil.copytree(model_folder, run.folder / "model")
    details = {"folder": "model", "name": "model", "step": 5, "key": "k"}
    run.operations.add("model", **details, register="shop")
    run_id = run.send()
    (run.folder / "tracking.json").unlink()
    assert run.send() == run_id
    client = MlflowClient(run.uri)
    [version] = client.search_model_versions("name = 'shop'")
    assert (int(version.version), version.run_id) == (1, run_id)
    [output] = client.get_run(run_id).outputs.model_outputs
    logged = client.get_logged_model(output.model_id)
    assert (logged.name, logged.status, logged.source_run_id) == ("model", "READY", run_id)
    loaded = mlflow.pyfunc.load_model("models:/shop/1")
    assert loaded.metadata.run_id == run_id
    assert loaded.metadata.signature is not None
    assert loaded.predict(pd.DataFrame({"x": [2.0]}))["x"].tolist() == [4.0]


def test_sync_sends_a_run_that_nobody_sent(run: WrittenRun) -> None:
    run.log(0, 5)
    run_id = sync(run.folder, run.uri)
    assert history(run.uri, run_id) == [(step, 1 / (step + 1)) for step in range(5)]
    assert MlflowClient(run.uri).get_run(run_id).info.status == "KILLED"
    run.operations.add("status", status="FINISHED")
    assert sync(run.folder, run.uri) == run_id
    assert MlflowClient(run.uri).get_run(run_id).info.status == "FINISHED"


def test_run_is_found_by_its_id_here(run: WrittenRun) -> None:
    run.operations.tags({"pollinate.run_dir": str(run.folder)})
    run_id = run.send()
    assert find_run(run.uri, run_id).run_dir == run.folder


def test_run_from_elsewhere_is_downloaded_and_continues(run: WrittenRun, tmp_path: Path) -> None:
    run.operations.tags({"pollinate.run_dir": "/nowhere/run"})
    (run.folder / "best.ckpt").write_bytes(b"weights")
    run.operations.add("artifact", path="best.ckpt", folder="checkpoints")
    run.operations.params({"lr": 0.1})
    run.log(0, 8)
    run_id = run.send()
    found = find_run(run.uri, run_id)
    assert found.run_dir is None
    new = tmp_path / "new"
    assert found.download(new).read_bytes() == b"weights"
    assert stored_run_id(new) == run_id
    resumed = WrittenRun(new, run.uri)
    resumed.operations.params({"lr": 0.1})
    resumed.log(5, 12)  # the checkpoint was older than the last points
    assert resumed.send() == run_id
    assert Counter(history(run.uri, run_id)) == Counter((s, 1 / (s + 1)) for s in range(12))


def test_unknown_run_and_database(run: WrittenRun) -> None:
    run.send()
    with pytest.raises(PollinateError, match="no MLflow run 'abc'"):
        find_run(run.uri, "abc")
    with pytest.raises(PollinateError, match="no database at"):
        find_run("sqlite:////nowhere/x.db", "abc")


def test_model_whose_last_answer_was_lost(run: WrittenRun, model_folder: Path) -> None:
    shutil.copytree(model_folder, run.folder / "model")
    details = {"folder": "model", "name": "model", "step": 5, "key": "k"}
    run.operations.add("model", **details, register=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MlflowClient, "finalize_logged_model", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run.send()
    run_id = run.send()
    client = MlflowClient(run.uri)
    [output] = client.get_run(run_id).outputs.model_outputs
    assert client.get_logged_model(output.model_id).status == "READY"
    assert client.search_registered_models() == []
