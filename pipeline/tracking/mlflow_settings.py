"""Addresses, time-outs and names of MLflow. MLflow itself is not imported at the top."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from filelock import FileLock

from pollinate.errors import UsageError
from pollinate.files import replacing

_SQLITE = "sqlite:///"
DATABASE = "sqlite:///runs/mlflow.db"  # where runs are tracked by default


def resolve_uri(uri: str) -> str:
    """Make a relative sqlite path absolute, from the current folder; other addresses stay."""
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
    """Give the file of an sqlite address, as it is written there; None for any other address."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def mlflow_uri(uri: str) -> str:
    """Give an address as MLflow takes it: SQLAlchemy reads ``%41`` and ``?`` in a file's name.

    Raises:
        UsageError: the installed SQLAlchemy has no way to write the name.
    """
    path = sqlite_path(uri)
    if path is None or not any(letter in str(path) for letter in "%?"):
        return uri
    from sqlalchemy.engine import URL, make_url  # takes a moment, and MLflow brings it

    # with the driver named, MLflow makes no folder of the name as it is encoded
    found = URL.create("sqlite+pysqlite", database=str(path)).render_as_string()
    if make_url(found).database != str(path):
        raise UsageError(
            f"tracking.uri must name a file without % and ? in its path, got {uri}: the installed "
            "SQLAlchemy can't open it; choose another place, or install SQLAlchemy 2.1"
        )
    return found


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

    with replacing(path) as new:
        store: Any = SqlAlchemyStore(mlflow_uri(f"{_SQLITE}{new}"), artifacts)  # type: ignore[no-untyped-call]  # MLflow
        store.engine.dispose()


_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_UPLOAD_SECONDS = 600  # a server may store a whole checkpoint elsewhere before it answers

MLFLOW_DEFAULTS = {
    _TIMEOUT: "10",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the sender repeats by itself
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def set_timeouts() -> None:
    """Make MLflow answer soon and keep quiet, where the user has not decided otherwise."""
    for name, value in MLFLOW_DEFAULTS.items():
        os.environ.setdefault(name, value)


@contextmanager
def upload_patience() -> Iterator[None]:
    """Let requests inside take as long as an upload may."""
    before = os.environ.get(_TIMEOUT, MLFLOW_DEFAULTS[_TIMEOUT])
    os.environ[_TIMEOUT] = str(max(int(before), _UPLOAD_SECONDS))
    try:
        yield
    finally:
        os.environ[_TIMEOUT] = before


_REFUSED = re.compile(r"[^\w.\- /]")
_PARTS = re.compile(r"/+")


@lru_cache(maxsize=100_000)
def clean_name(name: str, limit: int) -> str:
    """Replace what MLflow refuses or drops by "_"; "/" stays, it groups the charts.

    Args:
        name: a metric's or parameter's name.
        limit: longest name, characters; a longer one is cut and marked with a hash.
    """
    parts = [part for part in _PARTS.split(_REFUSED.sub("_", name)) if part]
    clean = "/".join("_" if set(part) == {"."} else part for part in parts) or "_"
    if len(clean) <= limit:
        return clean
    return f"{clean[: limit - 9]}-{hashlib.sha256(clean.encode()).hexdigest()[:8]}"
