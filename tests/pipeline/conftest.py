"""A whole configuration of stand-ins, and what makes tracked runs cheap."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.configuration.composition import compose
from pipeline.tracking import background
from pipeline.tracking.mlflow_settings import prepare_sqlite
from pollinate.errors import UsageError
from tests.warm_senders import WarmSenders

CONF = Path(__file__).parent / "conf"
ALLOW = "allow_targets=[tests.pipeline.standins]"

Fit = Callable[..., dict[str, Any]]


@pytest.fixture
def fit() -> Fit:
    """Compose ``fit`` over stand-ins; ``dirs`` are searched before them."""

    def composed(*overrides: str, dirs: tuple[Path, ...] = ()) -> dict[str, Any]:
        return compose("fit", [ALLOW, *overrides], [*dirs, CONF])

    return composed


@pytest.fixture
def refused(fit: Fit) -> Callable[..., str]:
    """Compose what must be refused and return the message."""

    def message(*overrides: str, dirs: tuple[Path, ...] = ()) -> str:
        with pytest.raises(UsageError) as caught:
            fit(*overrides, dirs=dirs)
        return str(caught.value)

    return message


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow's, not to be changed: to create its tables takes seconds."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which these processes share
    path = folder / "empty_database" / "mlflow.db"
    with warnings.catch_warnings():  # of MLflow, while it is imported
        warnings.simplefilter("ignore")
        prepare_sqlite(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def sender_server(empty_database: Path) -> Iterator[WarmSenders]:
    server = WarmSenders(empty_database)
    yield server
    server.close()


@pytest.fixture
def warm_senders(sender_server: WarmSenders, monkeypatch: pytest.MonkeyPatch) -> WarmSenders:
    """Make runs' senders forks of a process that has imported MLflow."""
    monkeypatch.setattr(background, "subprocess", sender_server)
    return sender_server
