"""Data and a finished study for whole commands."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.pipeline.studies.text_shop import SMALL, write_shop


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that take no time are looked at at once."""
    monkeypatch.setattr("pipeline.studies.scheduler.PAUSE", 0.01)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, launcher: str) -> Path:
    """A folder with a study that is finished, and what it printed."""
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder)
    command = [*shlex.split(launcher), "-m", "pipeline.study", *SMALL, "seeds=[0,1]", "jobs=2"]
    command += [f"launcher={launcher}", "study.transfers=[[mood,speed]]", "run_dir=one"]
    with (folder / "printed").open("wb") as printed:
        environment = os.environ | {"COLUMNS": "200"}
        code = subprocess.call(command, cwd=folder, env=environment, stdout=printed)
    assert code == 0, (folder / "printed").read_text()
    return folder
