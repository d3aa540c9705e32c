"""A run of branches that is killed in the middle of one goes on exactly."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lightning_modules.checkpoints import read_checkpoint
from pipeline.run_folder import RunFolder
from pipeline.tracking.journals import read_points
from tests.sessions import TASKS, Fault, Session, run_sessions
from tests.test_resume import history, same

pytestmark = pytest.mark.slow
read_once = cache(read_checkpoint)  # no test changes a run

FORKED = (
    *TASKS,
    "sampler.steps_per_epoch=10",  # a round
    "transfer=fork_merge",
    "transfer.targets=[size]",
    "transfer.every_n_steps=5",
    "transfer.tolerance={size: 1.0}",  # all merges are accepted
    "trainer.max_epochs=3",
    "checkpoint.every_n_steps=2",
)


PER_PROCESS = ("trainer=branches", "trainer.accelerator=cpu", "sampler.steps_per_epoch=5")
PAIRS = [("whole", "stopped"), ("whole", "paused"), ("per-process", "per-process-stopped")]


@dataclass(frozen=True)
class ForkedRuns:
    """What all sessions left."""

    root: Path
    codes: list[int]

    def folder(self, name: str) -> RunFolder:
        return RunFolder(self.root / name)

    def last(self, name: str) -> dict[str, Any]:
        return read_once(self.folder(name).checkpoints / "last.ckpt")

    def log(self, name: str) -> str:
        return (self.root / f"{name}.log").read_text()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> ForkedRuns:
    root = tmp_path_factory.mktemp("fork_merge")

    def session(name: str, *arguments: str, **options: Any) -> Session:
        return Session(arguments, str(root / f"{name}.log"), **options)

    going_on = f"resume={root / 'stopped'}"
    sessions = [
        session("whole", *FORKED, f"run_dir={root / 'whole'}", plots=True, estimate=True),
        # in the second round's second branch, then in the third round's first
        session(
            "stopped", *FORKED, f"run_dir={root / 'stopped'}", fault=Fault("training step", 18)
        ),
        session("stopped", going_on, fault=Fault("training step", 8, "SIGTERM")),
        session("stopped", going_on),
        session("paused", *FORKED, f"run_dir={root / 'paused'}", "pause_after=1"),
        session("paused", f"resume={root / 'paused'}", "pause_after=null"),
        session(
            "per-process", *FORKED, *PER_PROCESS, f"run_dir={root / 'per-process'}", processes=2
        ),
        # in the second round
        session(
            "per-process-stopped",
            *(*FORKED, *PER_PROCESS, f"run_dir={root / 'per-process-stopped'}"),
            fault=Fault("training step", 8),
            processes=2,
        ),
        session("per-process-stopped", f"resume={root / 'per-process-stopped'}", processes=2),
    ]
    return ForkedRuns(root, run_sessions(sessions, root))


def test_exit_codes_name_the_signals(runs: ForkedRuns) -> None:
    assert runs.codes == [0, -9, 143, 0, 0, 0, 0, -9, 0], runs.log("whole") + runs.log("stopped")


@pytest.mark.parametrize(
    "part", ["state_dict", "optimizer_states", "lr_schedulers", "rank_states", "loops", "callbacks"]
)
@pytest.mark.parametrize(("whole", "stopped"), PAIRS)
def test_a_stopped_run_ends_bit_for_bit(
    part: str, whole: str, stopped: str, runs: ForkedRuns
) -> None:
    assert same(runs.last(stopped)[part], runs.last(whole)[part])


@pytest.mark.parametrize(("whole", "stopped"), PAIRS)
def test_a_stopped_run_has_one_history(whole: str, stopped: str, runs: ForkedRuns) -> None:
    assert history(runs.folder(stopped)) == history(runs.folder(whole))


def test_branches_in_processes_share_the_rounds(runs: ForkedRuns) -> None:
    lines = [line for line in runs.log("per-process").splitlines() if line.startswith("round ")]
    assert len(lines) == 3
    summary = json.loads(runs.folder("per-process").summary.read_text())
    assert (summary["steps"], summary["synchronisations"]) == (15, 3)


def test_a_run_tells_its_rounds(runs: ForkedRuns) -> None:
    lines = [line for line in runs.log("whole").splitlines() if line.startswith("round ")]
    assert [line.split()[1] for line in lines] == ["1", "2", "3"]
    summary = json.loads(runs.folder("whole").summary.read_text())
    assert (summary["status"], summary["steps"]) == ("finished", 30)
    assert (runs.folder("whole").plots / "rounds.png").exists()
    keys = {point.key for point in read_points(runs.folder("whole").metrics)}
    assert {"fork_merge/accepted", "fork_merge/coefficient/targets_only"} <= keys
