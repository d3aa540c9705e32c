"""Puts a saved MLflow model onto the run's page and into the registry, once."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from pipeline.tracking.cursor import Cursor
from pipeline.tracking.sender import Operation
from pipeline.tracking.settings import KEY_TAG


def register_model(
    client: MlflowClient,
    experiment: tuple[str, str],
    operation: Operation,
    folder: Path,
    cursor: Cursor,
) -> None:
    """Log the model as MLflow 3 does: a logged model of the run, then a registered version.

    Each part looks first whether an earlier attempt has done it already.

    Args:
        client: of the server.
        experiment: id of the experiment, id of the run.
        operation: name, step, key, and the registry's name or None.
        folder: what ``mlflow.pyfunc.save_model`` wrote.
        cursor: remembers the logged model's id.
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
    model = Model.load(str(folder))
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
