"""Finds the run folder of an MLflow run, to resume it by its id."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pipeline.tracking.journals import RUN_DIR_TAG, encode_number
from pipeline.tracking.mlflow_settings import (
    login,
    mlflow_uri,
    resolve_uri,
    set_timeouts,
    sqlite_path,
    upload_patience,
)
from pipeline.tracking.redact import redact_text
from pipeline.tracking.sender import (
    KEY_TAG,
    METRICS,
    OPERATIONS,
    SYSTEM,
    SendCursor,
    stored_run_id,
)
from pollinate.errors import PollinateError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

CHECKPOINT_NAMES = ("last.ckpt", "best.ckpt")  # the one to resume from first


@dataclass(frozen=True)
class FoundRun:
    """A run that the server knows.

    Attributes:
        run_dir: its folder, if that is on this machine; None otherwise.
        download: given a new folder, puts checkpoint, config and history there and returns the
            checkpoint's path; the folder then resumes the same MLflow run.
    """

    run_dir: Path | None
    download: Callable[[Path], Path]


def find_run(uri: str, run_id: str) -> FoundRun:
    """Look a run up on its tracking server.

    Raises:
        PollinateError: the server does not answer, or does not know the run.
    """
    client, uri = _connect(uri)
    run = _get_run(client, uri, run_id)
    folder = Path(run.data.tags.get(RUN_DIR_TAG, ""))
    is_here = folder.is_absolute() and stored_run_id(folder) == run_id
    return FoundRun(folder if is_here else None, lambda new: _download(client, uri, run, new))


def find_model(uri: str, model: str) -> Path:
    """Return the folder of a registered model, downloaded if its store is elsewhere.

    Args:
        uri: address of the tracking server.
        model: ``models:/NAME/VERSION``, or ``models:/NAME@ALIAS``.
    """
    _connect(uri)
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        with upload_patience():
            return Path(mlflow.artifacts.download_artifacts(artifact_uri=model))
    except (MlflowException, OSError) as error:
        raise PollinateError(
            f"no model {model} at {redact_text(uri)}: {redact_text(str(error))}"
        ) from error


def _connect(uri: str) -> tuple[MlflowClient, str]:
    uri, variables = login(resolve_uri(uri))
    os.environ.update(variables)
    set_timeouts()
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        raise PollinateError(f"tracking.uri: no database at {path}; check the path")
    import mlflow

    address = mlflow_uri(uri)
    mlflow.set_tracking_uri(address)  # downloads of artifacts look it up
    return mlflow.MlflowClient(address), uri


def _get_run(client: MlflowClient, uri: str, run_id: str) -> Run:
    from mlflow.exceptions import MlflowException

    place = redact_text(uri)
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise PollinateError(f"{place} does not answer: {redact_text(str(error))}") from error
        raise PollinateError(
            f"no MLflow run {run_id!r} at {place}; give the id that the run's page shows,"
            " a checkpoint's path, or resume=last with run_dir"
        ) from error


def _download(client: MlflowClient, uri: str, run: Run, folder: Path) -> Path:
    run_id = run.info.run_id
    present = {item.path for item in client.list_artifacts(run_id, "checkpoints")}
    names = [name for name in CHECKPOINT_NAMES if f"checkpoints/{name}" in present]
    if not names:
        raise PollinateError(
            f"MLflow run {run_id} has no checkpoint among its artifacts; expected one of"
            f" {', '.join(CHECKPOINT_NAMES)} in checkpoints/"
        )
    checkpoint = folder / "checkpoints" / names[0]
    _fetch(client, run_id, f"checkpoints/{names[0]}", checkpoint)
    if "config.yaml" in {item.path for item in client.list_artifacts(run_id)}:
        _fetch(client, run_id, "config.yaml", folder / "config.yaml")
    _write_history(client, run, folder, _experiment_cursor(client, uri, run, folder))
    return checkpoint


def _fetch(client: MlflowClient, run_id: str, artifact: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # stores differ in whether they keep the artifact's folders below the destination
    with upload_patience(), TemporaryDirectory(dir=path.parent) as temporary:
        Path(client.download_artifacts(run_id, artifact, temporary)).replace(path)


def _experiment_cursor(client: MlflowClient, uri: str, run: Run, folder: Path) -> SendCursor:
    experiment = client.get_experiment(run.info.experiment_id).name
    return SendCursor(folder / "tracking.json", redact_text(uri), experiment, run.info.run_id)


def _write_history(client: MlflowClient, run: Run, folder: Path, cursor: SendCursor) -> None:
    """Write journals that hold what the server holds, all of it marked as sent."""
    points = [
        point
        for key in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, key)
    ]
    _write(folder / METRICS, _lines([p for p in points if not p.key.startswith("system/")]))
    _write(folder / SYSTEM, _lines([p for p in points if p.key.startswith("system/")]))
    start = {
        "op": "start",
        "time_ms": run.info.start_time,
        "key": run.data.tags.get(KEY_TAG, cursor.run_id),
        "name": run.info.run_name,
        "uri": cursor.uri,
        "experiment": cursor.experiment,
    }
    params = {"op": "params", "time_ms": run.info.start_time, "params": run.data.params}
    _write(folder / OPERATIONS, [start, params])
    cursor.offsets = {n: (folder / n).stat().st_size for n in (METRICS, SYSTEM, OPERATIONS)}
    cursor.save()


def _lines(points: list[Any]) -> list[dict[str, Any]]:
    groups: dict[tuple[int, int], dict[str, float | str]] = defaultdict(dict)
    for point in points:
        groups[point.step, point.timestamp][point.key] = encode_number(point.value)
    return [
        {"step": step, "time_ms": time_ms, "metrics": metrics}
        for (step, time_ms), metrics in sorted(groups.items())
    ]


def _write(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(r, separators=(",", ":")) + "\n" for r in records))
