"""Where MLflow keeps runs: addresses, and an sqlite file that many processes may open at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from filelock import FileLock

from pipeline.errors import UsageError

_SQLITE = "sqlite:///"
DATABASE = "sqlite:///runs/mlflow.db"  # where runs are tracked by default


def resolve_uri(uri: str) -> str:
    """Make a relative sqlite path absolute, from the current folder; other addresses stay.

    Raises:
        UsageError: a plain path or an sqlite database in memory.
    """
    if uri.startswith("sqlite:"):
        path = uri.removeprefix(_SQLITE)
        if path in (uri, "", ":memory:"):
            raise UsageError(f"tracking.uri must name a file, got {uri!r}; use sqlite:///PATH.db")
        return _SQLITE + str(Path(path).absolute())
    if "://" not in uri and uri != "databricks":
        raise UsageError(
            f"tracking.uri must be an address, got {uri!r}; use sqlite:///{uri or 'PATH'}.db"
            " or http://HOST:PORT"
        )
    return uri


def sqlite_path(uri: str) -> Path | None:
    """Give the file of an sqlite address; None for any other address."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def artifact_location(uri: str) -> str | None:
    """Give the folder for artifacts beside an sqlite file; None: the server decides."""
    path = sqlite_path(uri)
    return None if path is None else (path.parent / "artifacts").as_uri()


def login(uri: str) -> tuple[str, dict[str, str]]:
    """Split http://user:password@host into the address without them and MLflow's variables.

    MLflow prints the address in its messages, but never these variables.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or parts.username is None:
        return uri, {}
    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    values = (parts.username, parts.password or "")
    host = parts.netloc.rpartition("@")[2]
    bare = urlunsplit((parts.scheme, host, parts.path, parts.query, parts.fragment))
    return bare, {name: unquote(value) for name, value in zip(names, values, strict=True)}


def prepare_sqlite(uri: str) -> None:
    """Create the database once, whoever comes first, and complete before anyone sees it.

    MLflow creates its tables without a lock: of four processes that open a new file, three
    crash; and a kill on the way leaves a file that it cannot repair.
    """
    path = sqlite_path(uri)
    if path is None or _is_filled(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not _is_filled(path):
            _create(path, artifact_location(uri) or "")


def _is_filled(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _create(path: Path, artifacts: str) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    new = path.with_name(f".{path.name}.{os.getpid()}")
    store: Any = SqlAlchemyStore(f"{_SQLITE}{new}", artifacts)  # type: ignore[no-untyped-call]  # MLflow
    store.engine.dispose()
    new.replace(path)
