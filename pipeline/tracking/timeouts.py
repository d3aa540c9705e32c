"""How long MLflow's client waits; always for a process that has nothing better to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_UPLOAD_SECONDS = 600  # a server may store a whole checkpoint elsewhere before it answers

DEFAULTS = {
    _TIMEOUT: "10",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the sender repeats by itself
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def set_defaults() -> None:
    """Make MLflow answer soon and keep quiet, where the user has not decided otherwise."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


@contextmanager
def upload_patience() -> Iterator[None]:
    """Let requests inside take as long as an upload may."""
    before = os.environ.get(_TIMEOUT, DEFAULTS[_TIMEOUT])
    os.environ[_TIMEOUT] = str(max(int(before), _UPLOAD_SECONDS))
    try:
        yield
    finally:
        os.environ[_TIMEOUT] = before
