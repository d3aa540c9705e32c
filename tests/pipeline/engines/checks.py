"""What holds on every engine: kills repeat and lose nothing, scores are the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.studies.plan import StudyPlan
from pipeline.studies.trials import collect
from pipeline.study import main
from tests.pipeline.studies.plans import ROOT
from tests.pipeline.studies.text_shop import SMALL, write_shop


def words(log: Path) -> list[list[str]]:
    """What the stand-ins noted: begin and end, and the trial."""
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def drive(folder: Path, jobs: int, engine: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Run a kept plan in a process of its own."""
    own = [str(folder), str(jobs), json.dumps(engine)]
    command = [sys.executable, "-m", "tests.pipeline.studies.run_plan", *own]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, cwd=ROOT, start_new_session=True)


def kill_and_go_on(
    made: StudyPlan, folder: Path, log: Path, engine: dict[str, Any], kills: int = 4
) -> None:
    """Check that kills at random moments lose no finished trial, and repeat none."""
    made.save(folder)
    draw = random.Random(7)
    for _ in range(kills):
        process = drive(folder, 2, engine)
        begun, until = len(words(log)), time.monotonic() + 40
        while len(words(log)) <= begun and time.monotonic() < until and process.poll() is None:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.6))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert drive(folder, 2, engine).wait() == 0
    results = collect(folder)
    assert {trial.status for trial in results.trials} == {"finished"}
    lines = words(log)
    ends = Counter(name for word, name in lines if word == "end")
    assert ends == Counter({trial.folder.removeprefix("trials/"): 1 for trial in results.trials})
    for name in ends:
        own = [word for word, other in lines if other == name]
        assert own[-1] == "end"  # nothing was begun again after its end
        steps = [
            json.loads(line)["step"]
            for line in (folder / "trials" / name / "metrics.jsonl").read_text().splitlines()
        ]
        assert sorted(set(steps)) == list(range(1, 11))
        assert len(steps) <= 10 + len(own)  # a step that a kill interrupts is taken once more


ALIKE = ("arm", "seed", "status", "test", "valid", "labels", "rows_seen", "parameters")


def scores(folder: Path) -> list[dict[str, Any]]:
    """What results.json says of a study's trials, but for times, memory and folders."""
    results = json.loads((folder / "results.json").read_text())["results"]
    return [{key: trial[key] for key in ALIKE} for trial in results["trials"]]


def check_scores(folder: Path, launcher: str, engines: Mapping[str, list[str]]) -> None:
    """Check that a real study says the same on this machine's processes and on engines.

    Args:
        folder: where the user stands; launcher: starts a run.
        engines: {name of a study: what selects its engine}.
    """
    write_shop(folder)
    given = [*SMALL, "trainer.max_epochs=2", "seeds=[0]", "jobs=2", f"launcher={launcher}"]
    assert main([*given, "run_dir=here"]) == 0
    here = scores(folder / "here")
    assert [trial["status"] for trial in here] == ["finished"] * 3
    for name, told in engines.items():
        assert main([*given, f"run_dir={name}", *told]) == 0
        assert scores(folder / name) == here
