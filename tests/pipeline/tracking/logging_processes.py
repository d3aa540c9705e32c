"""What processes of their own log; see test_loggers.py. MLflow must not be imported here."""

import os
import signal
import sys

from pipeline.tracking.loggers import LocalRunLogger, MLflowRunLogger


def log_locally(run_dir: str) -> None:
    """Log a run that nobody sends."""
    tracker = LocalRunLogger(run_dir=run_dir, run_name="one", resume=False)
    tracker.log_metrics({"a": 1.0}, 0)
    tracker.close("finished")
    _require_no_mlflow()


def log_and_die(uri: str, run_dir: str) -> None:
    """Log many points and be killed."""
    tracker = MLflowRunLogger(uri, "exp", None, 60.0, run_dir=run_dir, run_name="a", resume=False)
    for step in range(1000):
        tracker.log_metrics({"a": float(step)}, step)
    _require_no_mlflow()
    os.kill(os.getpid(), signal.SIGKILL)


def _require_no_mlflow() -> None:
    assert "lightning" in sys.modules
    assert not any(name.split(".")[0] == "mlflow" for name in sys.modules)
