"""An MLflow server or database: runs, metrics, models. Imports MLflow at its top."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    Metric,
    Param,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.utils.validation import (
    MAX_DATASET_DIGEST_SIZE,
    MAX_DATASET_NAME_SIZE,
    MAX_DATASET_SCHEMA_SIZE,
    MAX_DATASET_SOURCE_SIZE,
    MAX_ENTITY_KEY_LENGTH,
    MAX_PARAM_VAL_LENGTH,
    MAX_PARAMS_TAGS_PER_BATCH,
    MAX_TAG_VAL_LENGTH,
)

from pipeline.serving.model_folder import package_for_mlflow
from pipeline.tracking.journals import MetricPoint
from pipeline.tracking.mlflow_settings import (
    artifact_location,
    clean_name,
    mlflow_uri,
    prepare_sqlite,
    upload_patience,
)
from pipeline.tracking.sender import (
    KEY_TAG,
    Operation,
    RefusedError,
    RunDeletedError,
    SendCursor,
    SenderSettings,
    sent_path,
)


def register_model(
    client: MlflowClient,
    experiment: tuple[str, str],
    operation: Operation,
    folder: Path,
    cursor: SendCursor,
) -> None:
    """Log the model as MLflow 3 does: a logged model of the run, then a registered version.

    Each part looks first whether an earlier attempt has done it already.
    """
    experiment_id, run_id = experiment
    key = operation["key"]
    if key not in cursor.models:
        cursor.models[key] = _find_model(client, experiment_id, key) or _create_model(
            client, experiment, operation
        )
        cursor.save()
    model_id = cursor.models[key]
    if client.get_logged_model(model_id).status != "READY":
        _link_to_run(client, LoggedModelOutput(model_id, operation["step"]), run_id)
        client.log_model_artifacts(model_id, str(folder))
        _send_description(client, model_id, run_id, folder)
        client.finalize_logged_model(model_id, "READY")
    if operation["register"] is not None:
        _register_version(client, operation["register"], model_id, run_id)


def _find_model(client: MlflowClient, experiment_id: str, key: str) -> str | None:
    found = client.search_logged_models([experiment_id], f"tags.`{KEY_TAG}` = '{key}'")
    return str(found[0].model_id) if found else None


def _create_model(client: MlflowClient, experiment: tuple[str, str], operation: Operation) -> str:
    experiment_id, run_id = experiment
    model = client.create_logged_model(
        experiment_id,
        name=operation["name"],
        source_run_id=run_id,
        tags={KEY_TAG: operation["key"]},
        params=client.get_run(run_id).data.params,
        model_type="pyfunc",
    )
    return str(model.model_id)


def _link_to_run(client: MlflowClient, output: LoggedModelOutput, run_id: str) -> None:
    outputs = client.get_run(run_id).outputs
    linked = [] if outputs is None else [model.model_id for model in outputs.model_outputs]
    if output.model_id not in linked:  # a second link would be an error
        client.log_outputs(run_id, [output])


def _send_description(client: MlflowClient, model_id: str, run_id: str, folder: Path) -> None:
    """Replace MLmodel by one that knows its ids; the run folder's own stays as it was."""
    # MLflow's own reader takes %20 in a folder's name for a space
    model = Model.from_dict(yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8")))
    logged = client.get_logged_model(model_id)
    model.run_id, model.model_id, model.model_uuid = run_id, model_id, model_id
    model.artifact_path = logged.artifact_location
    with tempfile.TemporaryDirectory() as temporary:
        model.save(str(Path(temporary, "MLmodel")))
        client.log_model_artifacts(model_id, temporary)


def _register_version(client: MlflowClient, name: str, model_id: str, run_id: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"models:/{model_id}"
    versions = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    if not any(version.source == source for version in versions):
        client.create_model_version(name, source, run_id, model_id=model_id)


_REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS"}
_REQUEST = 200_000  # characters of parameters a call; servers refuse bodies over 1 MB


class MlflowServer:
    """Carries out a run's operations on MLflow."""

    def __init__(self, settings: SenderSettings) -> None:
        self._settings = settings
        self._run_id = ""
        self._experiment_id = ""
        mlflow.set_tracking_uri(mlflow_uri(settings.uri))  # the registry's own lookups use it
        self._client: MlflowClient | None = None

    @property
    def client(self) -> MlflowClient:
        """The client; made on first use, because it opens the database."""
        if self._client is None:
            prepare_sqlite(self._settings.uri)
            self._client = MlflowClient(mlflow_uri(self._settings.uri))
        return self._client

    def open_run(self, cursor: SendCursor) -> None:
        self._experiment_id = self._find_experiment()
        if cursor.run_id is not None and not self._exists(cursor.run_id):
            cursor.restart()
        if cursor.run_id is None:
            # an earlier answer may have been lost after the run was created
            cursor.run_id = self._find_by_key() or self._create_run()
        self._run_id = cursor.run_id
        self._require_active()

    def _find_experiment(self) -> str:
        name = self._settings.experiment
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        # if another run is faster this fails, and the sender's next attempt finds it
        return self.client.create_experiment(name, artifact_location(self._settings.uri))

    def _exists(self, run_id: str) -> bool:
        try:
            self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        return True

    def _find_by_key(self) -> str | None:
        query = f"tags.`{KEY_TAG}` = '{self._settings.key}'"
        runs = self.client.search_runs([self._experiment_id], query, ViewType.ALL, max_results=1)
        return str(runs[0].info.run_id) if runs else None

    def _create_run(self) -> str:
        run = self.client.create_run(
            self._experiment_id,
            start_time=self._settings.start_ms,
            tags={KEY_TAG: self._settings.key, "mlflow.user": self._settings.user},
            run_name=self._settings.run_name,
        )
        return str(run.info.run_id)

    def _require_active(self) -> None:
        if self.client.get_run(self._run_id).info.lifecycle_stage != "active":
            raise RunDeletedError(self._run_id)

    def _refusing(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except MlflowException as error:
            if error.error_code not in _REFUSALS:
                raise
            self._require_active()  # a deleted run refuses everything
            raise RefusedError(error.message) from error

    def send_points(self, points: list[MetricPoint]) -> None:
        """Store points; infinities become NaN, which MLflow's charts show as a gap.

        MLflow would store them as 1.8e308 and flatten the chart; the journal keeps them.
        """
        metrics = [
            Metric(clean_name(key, MAX_ENTITY_KEY_LENGTH), finite_or_nan(value), time_ms, step)
            for key, value, step, time_ms in points
        ]
        self._refusing(lambda: self.client.log_batch(self._run_id, metrics=metrics))

    def send_operation(self, operation: Operation, cursor: SendCursor) -> None:
        handlers: dict[str, Callable[[Operation, SendCursor], None]] = {
            "start": self._start,
            "params": self._params,
            "tags": self._tags,
            "status": self._status,
            "artifact": self._artifact,
            "dataset": self._dataset,
            "model": self._model,
        }
        if operation["op"] not in handlers:
            raise RefusedError(f"unknown operation {operation['op']!r}")
        handlers[operation["op"]](operation, cursor)

    def set_status(self, status: str, time_ms: int) -> None:
        if status == "RUNNING":
            self.client.update_run(self._run_id, status)
        else:
            self.client.set_terminated(self._run_id, status, time_ms)

    def _start(self, _: Operation, __: SendCursor) -> None:
        self.set_status("RUNNING", 0)

    def _status(self, operation: Operation, _: SendCursor) -> None:
        self.set_status(operation["status"], operation["time_ms"])

    def _params(self, operation: Operation, _: SendCursor) -> None:
        values: dict[str, str] = operation["params"]
        params = [
            Param(clean_name(key, MAX_ENTITY_KEY_LENGTH), value[:MAX_PARAM_VAL_LENGTH])
            for key, value in values.items()
        ]
        refused = [key for batch in _batches(params) for key in self._refused_params(batch)]
        if any(len(value) > MAX_PARAM_VAL_LENGTH for value in values.values()):
            self.client.log_dict(self._run_id, values, "params.json")
        if refused:
            raise RefusedError(f"parameters {', '.join(refused)}")

    def _refused_params(self, batch: list[Param]) -> list[str]:
        """Send parameters; give the keys of those that the server will not take."""
        try:
            self._refusing(lambda: self.client.log_batch(self._run_id, params=batch))
        except RefusedError:
            if len(batch) == 1:
                return [batch[0].key]
            return [key for param in batch for key in self._refused_params([param])]
        return []

    def _tags(self, operation: Operation, _: SendCursor) -> None:
        tags = [
            RunTag(clean_name(key, MAX_ENTITY_KEY_LENGTH), value[:MAX_TAG_VAL_LENGTH])
            for key, value in operation["tags"].items()
        ]
        self._refusing(lambda: self.client.log_batch(self._run_id, tags=tags))

    def _artifact(self, operation: Operation, _: SendCursor) -> None:
        path = sent_path(Path(self._settings.run_dir), operation["path"])
        if not path.exists():
            raise RefusedError(f"{operation['path']} no longer exists")
        folder = operation["folder"] or None
        if folder is not None and (folder.startswith("/") or ".." in folder.split("/")):
            raise RefusedError(f"{folder} is no place among a run's artifacts")
        send = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        with upload_patience():
            send(self._run_id, str(path), folder)

    def _dataset(self, operation: Operation, _: SendCursor) -> None:
        data = _dataset_of(operation)
        tags = [InputTag("mlflow.data.context", operation["context"])]
        item = DatasetInput(data, tags)
        self._refusing(lambda: self.client.log_inputs(self._run_id, [item]))

    def _model(self, operation: Operation, cursor: SendCursor) -> None:
        folder = sent_path(Path(self._settings.run_dir), operation["folder"])
        if not folder.is_dir():
            raise RefusedError(f"{operation['folder']} no longer exists")
        experiment = (self._experiment_id, self._run_id)
        if not (folder / "MLmodel").exists():  # else it is one already: sent again, or a user's
            package_for_mlflow(folder)
        with upload_patience():
            self._refusing(
                lambda: register_model(self.client, experiment, operation, folder, cursor)
            )


def finite_or_nan(value: float) -> float:
    """Give NaN for an infinity."""
    return value if abs(value) != float("inf") else float("nan")


def _batches(params: list[Param]) -> Iterator[list[Param]]:
    batch: list[Param] = []
    size = 0
    for param in params:
        size += len(param.value)
        if len(batch) == MAX_PARAMS_TAGS_PER_BATCH or (batch and size > _REQUEST):
            yield batch
            batch, size = [], len(param.value)
        batch.append(param)
    if batch:
        yield batch


def _dataset_of(operation: Mapping[str, Any]) -> Dataset:
    source: str = operation["source"]
    is_web = source.startswith(("http://", "https://"))
    schema = operation["schema"]
    return Dataset(
        name=operation["name"][:MAX_DATASET_NAME_SIZE],
        digest=operation["digest"][:MAX_DATASET_DIGEST_SIZE],
        source_type="http" if is_web else "local",
        source=json.dumps({"url" if is_web else "uri": source})[:MAX_DATASET_SOURCE_SIZE],
        schema=None if schema is None else json.dumps(schema)[:MAX_DATASET_SCHEMA_SIZE],
        profile=json.dumps({f"{split}_rows": rows for split, rows in operation["rows"].items()}),
    )
