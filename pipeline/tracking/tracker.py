"""Lightning's loggers of a run: MLflow's, and one that stays in the run folder."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import UsageError
from pipeline.tracking.points import PointJournal
from pipeline.tracking.process import SenderProcess
from pipeline.tracking.provenance import user
from pipeline.tracking.redact import redact_text
from pipeline.tracking.run_logger import RunLogger
from pipeline.tracking.sender import SYSTEM
from pipeline.tracking.settings import PARENT_TAG, Settings
from pipeline.tracking.store import resolve_uri
from pipeline.tracking.system import SystemSampler


class LocalTracker(RunLogger):
    """Keeps the history in the run folder only; ``pipeline.sync`` can send it later."""

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


class Tracker(RunLogger):
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
        UsageError: ``uri`` is no address or ``system_seconds`` is not positive.
        PollinateError: ``run_dir`` holds a history and ``resume`` is False.
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
        super().__init__(run_dir=run_dir, run_name=run_name, resume=resume)
        self._register = register
        if self._is_active:
            self._begin({"uri": redact_text(uri), "experiment": experiment})
            if parent is not None:
                self.set_tags({PARENT_TAG: parent})
            self._start_processes(uri, experiment, system_seconds)

    def _start_processes(self, uri: str, experiment: str, seconds: float) -> None:
        settings = Settings(
            uri=uri,
            experiment=experiment,
            run_dir=str(self.run_dir),
            run_name=self._run_name,
            key=self._operations.key,
            user=user(),
            start_ms=self._operations.start_ms,
        )
        self._sender = SenderProcess(settings)
        self._system_points = PointJournal(self.run_dir / SYSTEM)
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
