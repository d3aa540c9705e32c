"""Studies of real runs: what one leaves, and one that is killed again and again."""

from __future__ import annotations

import json
import random
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pollinate as po
from pipeline.study import main
from tests.pipeline.studies.text_shop import SMALL, write_shop
from tests.pipeline.studies.warm_server import kill_all

pytestmark = pytest.mark.slow
KILLS = 2  # of the study alone, and of all its processes
ALIKE = ("arm", "seed", "status", "test", "valid", "labels", "rows_seen", "parameters")


def test_a_study_prints_its_plan_and_its_answers(finished: Path) -> None:
    printed = (finished / "printed").read_text()
    assert "8 of 8 trials left: about" in printed
    assert "done: transfer:mood>speed, seed 1 in" in printed
    assert "delta_m" in printed
    assert f"report {Path('one/report.html')}" in printed


def test_arms_differ_in_nothing_but_their_tasks(finished: Path) -> None:
    results = json.loads((finished / "one" / "results.json").read_text())["results"]
    trials = {(t["arm"], t["seed"]): t for t in results["trials"]}
    assert {t["status"] for t in trials.values()} == {"finished"}
    multi_task = trials["multi_task", 0]["rows_seen"]
    assert trials["single_task:mood", 0]["rows_seen"] == {"mood": multi_task["mood"]}
    assert trials["multi_task", 0]["labels"] == {"mood": 48, "speed": 48}
    assert trials["multi_task", 0]["test"] != trials["multi_task", 1]["test"]


def test_a_finished_study_is_only_reported_anew(
    finished: Path,
    launcher: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(finished)
    before = (finished / "one" / "results.csv").read_bytes()
    (finished / "one" / "report.html").unlink()
    assert main(["resume=one", f"launcher={launcher}"]) == 0
    assert "all trials are done" in capsys.readouterr().out
    assert (finished / "one" / "report.html").exists()
    assert (finished / "one" / "results.csv").read_bytes() == before


def test_a_study_opens_by_its_folder(finished: Path) -> None:
    found = po.Study(finished / "one")
    assert found.report == finished / "one" / "report.html"
    assert set(found.verdicts) == {"mood", "speed"}
    assert set(found.verdicts.values()) <= {"helped", "hurt", "unclear"}
    assert found.failed == {}
    assert found.summary.splitlines()[0] in (finished / "printed").read_text()
    table = found.table.set_index(["arm", "task"])
    joint = table[table.verdict.notna()]
    assert {"mood", "speed"} <= set(joint.index.get_level_values("task"))
    assert (table.seeds == 2).all()
    assert (table.low <= table.score).all()
    one = joint.iloc[0]
    alone = table[table.difference.isna()].xs(joint.index[0][1], level="task").score.iloc[0]
    assert one.score - alone == pytest.approx(one.difference)
    assert pd.read_csv(finished / "one/comparisons.csv").verdict.isin(joint.verdict).any()


def test_a_finished_study_is_reported_anew(
    finished: Path,
    launcher: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(finished)
    again = ["resume=one", f"launcher={launcher}"]
    found = po.study(seeds=[0, 1], overrides=again, quiet=True)
    assert found.verdicts == po.Study("one").verdicts
    assert capfd.readouterr().out == ""


def start(launcher: str, *given: str) -> subprocess.Popen[bytes]:
    command = [*shlex.split(launcher), "-m", "pipeline.study", *given, f"launcher={launcher}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def ends_of(folder: Path) -> dict[str, tuple[int, int]]:
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


def scores(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    results = json.loads((folder / "results.json").read_text())["results"]
    return {
        (trial["arm"], trial["seed"]): {key: trial[key] for key in ALIKE}
        for trial in results["trials"]
    }


def test_one_killed_at_random_moments_says_what_one_left_alone_does(
    finished: Path, launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it does where the same command is given later, for fewer arms and seeds."""
    write_shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    draw = random.Random(3)
    before: dict[str, tuple[int, int]] = {}
    ends = 0
    for kill in range(KILLS):
        begun = (tmp_path / "killed" / "study.json").exists()
        given = ["resume=killed"] if begun else [*SMALL, "seeds=[0]", "jobs=2", "run_dir=killed"]
        study = start(launcher, *given)
        known = sessions(tmp_path / "killed")
        while sessions(tmp_path / "killed") == known and study.poll() is None:
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 1))
        study.kill()
        if kill % 2:
            kill_all(launcher.split()[-1])
        ends += study.wait() != 0
        now = ends_of(tmp_path / "killed")
        assert before.items() <= now.items()
        before = now
    assert ends >= 1  # it was killed at work
    assert start(launcher, "resume=killed").wait() == 0
    now = ends_of(tmp_path / "killed")
    assert before.items() <= now.items()
    assert len(now) == 3
    assert sessions(tmp_path / "killed") > 3
    killed, alone = scores(tmp_path / "killed"), scores(finished / "one")
    assert set(killed) == {("multi_task", 0), ("single_task:mood", 0), ("single_task:speed", 0)}
    assert killed == {trial: alone[trial] for trial in killed}
