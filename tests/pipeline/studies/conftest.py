"""Data, a launcher and a finished study for whole commands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.studies.plans import ROOT
from tests.pipeline.studies.text_shop import SMALL, write_shop
from tests.pipeline.studies.warm_server import warm


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture(scope="package")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Starts a real run in a tenth of the time."""
    with warm(tmp_path_factory.mktemp("warm") / "socket") as command:
        yield command


@pytest.fixture(scope="package")
def finished(tmp_path_factory: pytest.TempPathFactory, launcher: str) -> Iterator[Path]:
    """A folder with a study that is finished, and what it printed."""
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        command = [sys.executable, "-m", "pipeline.study", *SMALL, "seeds=[0,1]", "run_dir=one"]
        command += [f"launcher={launcher}", "study.transfers=[[mood,speed]]", "jobs=2"]
        environment = {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, check=False
        )
        (folder / "printed").write_text(done.stdout + done.stderr)
        assert done.returncode == 0, done.stdout + done.stderr
        yield folder
