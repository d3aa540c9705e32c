"""What stand-ins for trials note."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in which the stand-ins note when they begin and end."""
    path = tmp_path / "runs.log"
    monkeypatch.setenv("STAND_IN_LOG", str(path))
    monkeypatch.setenv("STAND_IN_PAUSE", "0.03")
    monkeypatch.setattr("pipeline.studies.scheduler.PAUSE", 0.01)
    monkeypatch.setattr("pipeline.studies.scheduler.ELSEWHERE", 0.2)
    return path
