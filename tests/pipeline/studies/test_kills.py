"""A study of real runs that is killed again and again ends as one that is left alone."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.pipeline.studies.plans import ROOT
from tests.pipeline.studies.text_shop import SMALL, write_shop
from tests.pipeline.studies.warm_server import SERVE

KILLS = 2  # of the study alone, and of all its processes
GIVEN = [*SMALL, "trainer.max_epochs=8", "seeds=[0]", "jobs=2"]
ALIKE = ("arm", "seed", "status", "test", "valid", "labels", "rows_seen", "parameters")


def start(*given: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pipeline.study", *given]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def finished(folder: Path) -> dict[str, tuple[int, int]]:
    """Return {trial: when its run wrote that it has finished, and its sessions}."""
    found = {}
    for path in folder.glob("trials/*/*/summary.json"):
        if json.loads(path.read_text())["status"] == "finished":
            ledger = json.loads(path.parent.with_name(f"{path.parent.name}.json").read_text())
            name = str(path.parent.relative_to(folder))
            found[name] = path.stat().st_mtime_ns, len(ledger["sessions"])
    return found


def sessions(folder: Path) -> int:
    """Return how many times a run was begun or gone on with."""
    ledgers = folder.glob("trials/*/seed-?.json")
    return sum(len(json.loads(path.read_text())["sessions"]) for path in ledgers)


def cut_power() -> None:
    """Kill all runs, which are forks of the warm server."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it ended meanwhile
            above = psutil.Process(process.ppid())
            if SERVE in process.cmdline() and SERVE in above.cmdline():
                process.kill()


def scores(folder: Path) -> list[dict[str, Any]]:
    results = json.loads((folder / "results.json").read_text())["results"]
    return [{key: trial[key] for key in ALIKE} for trial in results["trials"]]


@pytest.mark.slow
def test_killed_at_random_moments_with_real_runs(
    launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    left_alone = start(*GIVEN, "run_dir=whole", f"launcher={launcher}")
    assert left_alone.wait() == 0
    draw = random.Random(3)
    before: dict[str, tuple[int, int]] = {}
    ends = 0
    for kill in range(KILLS):
        begun = (tmp_path / "killed" / "study.json").exists()
        again = ["resume=killed"] if begun else [*GIVEN, "run_dir=killed"]
        study = start(*again, f"launcher={launcher}")
        known = sessions(tmp_path / "killed")
        while sessions(tmp_path / "killed") == known and study.poll() is None:
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 2))
        study.kill()
        if kill % 2:
            cut_power()
        ends += study.wait() != 0
        now = finished(tmp_path / "killed")
        assert before.items() <= now.items()
        before = now
    assert ends >= 1  # it was killed at work
    assert start("resume=killed", f"launcher={launcher}").wait() == 0
    now = finished(tmp_path / "killed")
    assert before.items() <= now.items()
    assert len(now) == 3
    assert sessions(tmp_path / "killed") > 3
    assert scores(tmp_path / "killed") == scores(tmp_path / "whole")
