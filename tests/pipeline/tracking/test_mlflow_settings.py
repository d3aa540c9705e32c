from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

import pipeline
from pipeline.tracking.mlflow_settings import (
    MLFLOW_DEFAULTS,
    artifact_location,
    login,
    mlflow_uri,
    resolve_uri,
    set_timeouts,
    sqlite_path,
    upload_patience,
)

ROOT = Path(pipeline.__file__).parents[1]

OPEN = """
import sys
from pipeline.tracking.mlflow_settings import prepare_sqlite
prepare_sqlite(sys.argv[1])
"""


@pytest.mark.slow
def test_four_processes_open_a_new_database(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"}
    processes = [
        subprocess.Popen([sys.executable, "-c", OPEN, uri], env=environment) for _ in range(4)
    ]
    assert [process.wait() for process in processes] == [0, 0, 0, 0]
    with sqlite3.connect(tmp_path / "new" / "mlflow.db") as database:
        assert database.execute("select count(*) from experiments").fetchone() == (1,)
    database.close()
    left = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert left in (["mlflow.db"], ["mlflow.db", "mlflow.db.lock"])


def test_relative_sqlite_is_relative_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_uri("sqlite:///runs/a.db") == f"sqlite:///{tmp_path}/runs/a.db"
    assert resolve_uri("sqlite:////data/a.db") == "sqlite:////data/a.db"
    assert resolve_uri("http://host:5000") == "http://host:5000"
    assert artifact_location("sqlite:////data/a.db") == "file:///data/artifacts"
    assert artifact_location("http://host") is None


@pytest.mark.parametrize("name", ["db?1", "c%20d", "h#x", "a b", "50%"])
def test_mlflow_opens_the_file_that_is_named(tmp_path: Path, name: str) -> None:
    uri = resolve_uri(f"sqlite:///{tmp_path / name / 'm.db'}")
    assert sqlite_path(uri) == tmp_path / name / "m.db"
    assert make_url(mlflow_uri(uri)).database == str(tmp_path / name / "m.db")


def test_login_leaves_the_address() -> None:
    uri, variables = login("https://me:p%40ss@host:5000/path")
    assert uri == "https://host:5000/path"
    assert variables == {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "p@ss"}
    assert login("postgresql://a:b@c/d") == ("postgresql://a:b@c/d", {})


NAME = "MLFLOW_HTTP_REQUEST_TIMEOUT"


@pytest.mark.parametrize(("user", "normal", "upload"), [(None, 10, 600), ("90", 90, 600)])
def test_requests_are_short_and_uploads_long(
    monkeypatch: pytest.MonkeyPatch, user: str | None, normal: int, upload: int
) -> None:
    for name in MLFLOW_DEFAULTS:
        monkeypatch.setenv(name, "x")  # so that it is restored
        monkeypatch.delenv(name)
    if user is not None:
        monkeypatch.setenv(NAME, user)
    set_timeouts()
    assert os.environ[NAME] == str(normal)
    with upload_patience():
        assert os.environ[NAME] == str(upload)
    assert os.environ[NAME] == str(normal)
