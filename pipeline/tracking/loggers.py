"""Lightning's loggers of a run: journals in the run folder, which one of them sends to MLflow."""

from __future__ import annotations

import logging
import os
import uuid
from abc import abstractmethod
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only

from lightning_modules.flushable_logger import FlushableLogger
from pipeline.configuration.method_rules import register_problems
from pipeline.tracking.background import SenderProcess, SystemSampler
from pipeline.tracking.journals import MetricJournal, OperationJournal, original_of
from pipeline.tracking.mlflow_settings import resolve_uri
from pipeline.tracking.provenance import git_diff, provenance_tags, user_name
from pipeline.tracking.redact import redact_text
from pipeline.tracking.sender import (
    CURSOR_FILE,
    METRICS,
    OPERATIONS,
    PARENT_TAG,
    SYSTEM,
    SenderSettings,
)
from pollinate.errors import PollinateError, UsageError
from pollinate.files import write_text
from pollinate.suggest import raise_all

logger = logging.getLogger(__name__)

# this project's word for a run's end -> MLflow's
STATUSES = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


def is_rank_zero() -> bool:
    """Whether this process writes; also right before a Trainer exists, on any node."""
    node = os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0"))
    return getattr(rank_zero_only, "rank", 0) == 0 and ("RANK" in os.environ or node == "0")


class RunLogger(FlushableLogger):
    """Keeps a run's history in its folder; on ranks other than 0 it does nothing.

    Args:
        run_dir: the run folder; created if missing.
        run_name: name of the run on MLflow's pages.
        resume: whether ``run_dir`` already holds a part of this run.

    Raises:
        PollinateError: ``run_dir`` holds a history and ``resume`` is False.

    Examples:
        >>> import pollinate as po
        >>> logger = po.tracking.LocalRunLogger(run_dir="runs/mine", run_name="mine", resume=False)
        >>> isinstance(logger, po.tracking.RunLogger)
        True
        >>> logger.log_params({"optimizer": {"lr": 0.01}, "token": "s3cret"})  # secrets are hidden
        >>> logger.log_metrics({"train/loss": 0.5}, step=10)
        >>> logger.point_count, logger.version
        (1, 'mine')
        >>> logger.close("finished")
    """

    def __init__(self, *, run_dir: Path | str, run_name: str, resume: bool) -> None:
        super().__init__()
        self.run_dir = Path(run_dir).absolute()
        self._run_name = run_name
        self._is_active = is_rank_zero()
        self._is_closed = False
        if self._is_active:
            self._open(resume)

    def _open(self, resume: bool) -> None:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        if not resume and _has_content(self.run_dir / METRICS, self.run_dir / OPERATIONS):
            raise PollinateError(
                f"{self.run_dir} already holds a run; use resume=last, or another run_dir"
            )
        self._points = MetricJournal(self.run_dir / METRICS)
        original = original_of(self.run_dir, OPERATIONS)
        self._operations = OperationJournal(self.run_dir / OPERATIONS)
        if original is not None:
            logger.warning(
                "%s is a copy of %s; it becomes a run of its own in MLflow", self.run_dir, original
            )
            self._operations.rename()
            (self.run_dir / CURSOR_FILE).unlink(missing_ok=True)

    def _begin(self, destination: Mapping[str, str | None]) -> None:
        self._operations.start(self._run_name, destination)
        self.set_tags(provenance_tags(self.run_dir))
        diff = git_diff(Path.cwd())
        if diff is not None:
            path = self.run_dir / "git.diff"
            write_text(path, diff)
            self.log_artifact(path)

    @property
    def name(self) -> str:
        """The run's name."""
        return self._run_name

    @property
    def version(self) -> str:
        """The run folder's name."""
        return self.run_dir.name

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.run_dir)

    @property
    def experiment(self) -> RunLogger:
        """This logger: there is no client in the training process."""
        return self

    @property
    @abstractmethod
    def run_id(self) -> str | None:
        """Id of the MLflow run; None before the server's first answer."""

    @property
    def point_count(self) -> int:
        """Number of points (key, step) in the history, earlier sessions included."""
        return self._points.point_count if self._is_active else 0

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Append points; a (key, step) that the history has already is left out.

        Args:
            metrics: name -> number; "/" in names groups the charts.
            step: optimizer steps done; None: 0.
        """
        if self._is_active:
            self._points.log(metrics, 0 if step is None else step)

    def log_hyperparams(self, params: Mapping[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """Do ``log_params``, by Lightning's name."""
        self.log_params(vars(params) if isinstance(params, Namespace) else params)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record settings; nested mappings become dotted keys, secrets are hidden."""
        if self._is_active:
            self._operations.params(params)

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Record notes about the run; a later value replaces an earlier one."""
        if self._is_active:
            self._operations.tags(tags)

    def log_artifact(self, path: Path | str, folder: str = "") -> None:
        """Send a file or folder, which must stay where it is until then.

        Args:
            path: what to send, in the run folder; its content at the time of sending counts.
            folder: where to put it among the run's artifacts, "" for the top.
        """
        if self._is_active:
            self._operations.add("artifact", path=self._relative(path), folder=folder)

    def _relative(self, path: Path | str) -> str:
        path = Path(path).absolute()
        if not path.is_relative_to(self.run_dir):
            raise UsageError(
                f"a run sends files of its own folder only, got {path}; copy it into {self.run_dir}"
            )
        return str(path.relative_to(self.run_dir))

    def log_dataset(
        self,
        name: str,
        digest: str,
        source: str,
        rows: Mapping[str, int],
        context: str,
        schema: Any = None,
    ) -> None:
        """Record a data set as the run's input.

        Args:
            name: of the data set.
            digest: fingerprint of its content, at most 36 characters.
            source: path or address.
            rows: split -> number of rows.
            context: what it is for: training, evaluation.
            schema: MLflow's form, {"mlflow_colspec": [{"name": ..., "type": ...}]}, or None.
        """
        if self._is_active:
            record = {"name": name, "digest": digest, "source": redact_text(source)}
            self._operations.add_once(
                "dataset", **record, rows=dict(rows), context=context, schema=schema
            )

    @abstractmethod
    def log_model(self, folder: Path | str, name: str) -> None:
        """Send a model, which becomes one of MLflow's on the way.

        Args:
            folder: written by ``serving.model_folder.export_model``; must stay until then.
            name: of the model on the run's page.
        """

    def _log_model(self, folder: Path | str, name: str, register: str | None) -> None:
        if self._is_active:
            self._operations.add(
                "model",
                folder=self._relative(folder),
                name=name,
                register=register,
                step=max(self._points.last_step, 0),
                key=uuid.uuid4().hex,
            )

    def flush(self) -> None:
        """Put the history onto the disk; call it with each checkpoint, before it is complete."""
        if self._is_active and not self._is_closed:
            self._points.sync()
            self._operations.sync()

    def save(self) -> None:
        """Do nothing: Lightning calls it at every logged step, and the lines are written."""

    def finalize(self, status: str) -> None:
        """Flush. Lightning calls it after each of fit, validate and test: the run goes on."""
        self.flush()

    def close(self, status: str) -> None:
        """End the run; a second call does nothing.

        Args:
            status: finished, interrupted (can be resumed) or failed.
        """
        if status not in STATUSES:
            raise UsageError(f"status must be one of {', '.join(STATUSES)}, got {status!r}")
        if self._is_active and not self._is_closed:
            self._end(STATUSES[status])
            self._is_closed = True

    def _end(self, status: str) -> None:
        self._operations.add("status", status=status)
        self.flush()
        self._points.close()
        self._operations.close()


def _has_content(*paths: Path) -> bool:
    return any(path.exists() and path.stat().st_size > 0 for path in paths)


class LocalRunLogger(RunLogger):
    """Keeps the history in the run folder only; ``pipeline.sync`` can send it later.

    Examples:
        >>> import json
        >>> from pathlib import Path
        >>> import pollinate as po
        >>> logger = po.tracking.LocalRunLogger(run_dir="runs/mine", run_name="mine", resume=False)
        >>> logger.log_metrics({"train/loss": 0.5}, step=10)
        >>> logger.close("finished")
        >>> point = json.loads(Path("runs/mine/metrics.jsonl").read_text())
        >>> point["step"], point["metrics"]
        (10, {'train/loss': 0.5})
    """

    def __init__(self, *, run_dir: Path | str, run_name: str, resume: bool) -> None:
        super().__init__(run_dir=run_dir, run_name=run_name, resume=resume)
        if self._is_active:
            self._begin({"uri": None, "experiment": "pollinate"})

    @property
    def run_id(self) -> None:
        """None: no server knows this run."""
        return

    def log_model(self, folder: Path | str, name: str) -> None:
        """Record the model; it is not registered."""
        self._log_model(folder, name, None)


class MLflowRunLogger(RunLogger):
    """Keeps the history in the run folder and sends it to MLflow.

    Args:
        uri: sqlite:///PATH.db, http://HOST:PORT or another address of MLflow.
        experiment: MLflow's experiment, created if missing.
        register: name in the model registry; None: models are not registered.
        system_seconds: between two samples of processor and memory use, > 0.
        parent: id of the run that this one is a part of, None for none.
        run_dir: the run folder; created if missing.
        run_name: name of the run on MLflow's pages.
        resume: whether ``run_dir`` already holds a part of this run.

    Raises:
        UsageError: ``uri`` is no address, ``register`` no name that MLflow takes, or
            ``system_seconds`` is not positive.
        PollinateError: ``run_dir`` holds a history and ``resume`` is False.

    Examples:
        >>> import pollinate as po
        >>> logger = po.tracking.MLflowRunLogger(
        ...     "sqlite:///my.db", "shop", register=None, system_seconds=10,
        ...     run_dir="runs/mine", run_name="mine", resume=False,
        ... )
        >>> logger.log_metrics({"train/loss": 0.5}, step=10)
        >>> logger.close("finished")  # what wasn't sent yet is sent
        >>> len(logger.run_id)
        32
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        register: str | None,
        system_seconds: float,
        parent: str | None = None,
        *,
        run_dir: Path | str,
        run_name: str,
        resume: bool,
    ) -> None:
        uri = resolve_uri(uri)
        if system_seconds <= 0:
            raise UsageError(f"tracking.system_seconds must be > 0, got {system_seconds}")
        raise_all([] if register is None else list(register_problems(register)))
        super().__init__(run_dir=run_dir, run_name=run_name, resume=resume)
        self._register = register
        if self._is_active:
            self._begin({"uri": redact_text(uri), "experiment": experiment})
            if parent is not None:
                self.set_tags({PARENT_TAG: parent})
            self._start_processes(uri, experiment, system_seconds)

    def _start_processes(self, uri: str, experiment: str, seconds: float) -> None:
        settings = SenderSettings(
            uri=uri,
            experiment=experiment,
            run_dir=str(self.run_dir),
            run_name=self._run_name,
            key=self._operations.key,
            user=user_name(),
            start_ms=self._operations.start_ms,
        )
        self._sender = SenderProcess(settings)
        self._system_points = MetricJournal(self.run_dir / SYSTEM)
        self._sampler = SystemSampler(self._system_points, seconds)

    @property
    def run_id(self) -> str | None:
        """Id of the MLflow run; None before the server's first answer, and on other ranks."""
        return self._sender.run_id if self._is_active else None

    def log_model(self, folder: Path | str, name: str) -> None:
        """Send the model to the run's page and, if ``register`` is set, into the registry."""
        self._log_model(folder, name, self._register)

    def _end(self, status: str) -> None:
        self._sampler.close()
        self._system_points.close()
        super()._end(status)
        self._sender.close()
