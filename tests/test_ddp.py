"""Two processes train as one does, and resume exactly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.run_folder import RunFolder
from tests.pipeline.studies.text_shop import SMALL, write_shop
from tests.pipeline.test_frozen_features import close
from tests.sessions import ROOT, SMOKE, STREAMED, Fault, Session, run_sessions
from tests.test_resume import history, same

pytestmark = pytest.mark.slow

TWO = ("trainer=ddp", "trainer.devices=2")
EXACT = (
    "trunk.dropout=0",
    "data.text.dropout=0",
    "encoder.image.dropout=0",
    "encoder.text.dropout=0",
    "balancer=uncertainty",
    "optimizer=momentum",
    "trainer.accumulate_grad_batches=2",
    "trainer.max_epochs=-1",
    "trainer.max_steps=25",
    # in 32 bits a rounding error decides now and then which pixel is the largest in max pooling
    "trainer.precision=64-true",
)
# odd batches: one process has more rows than the other
PLAIN = {
    "quickstart": (*SMOKE, *EXACT, "sampler.batch_size=37"),
    "streamed, every type of task": (*STREAMED, *EXACT, "sampler.batch_size=7"),
}
STEPS_BEFORE_KILL = 10


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start a run in a process group of its own, as a person does; Lightning starts the second."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.fit", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def steps_saved(folder: RunFolder) -> int:
    """Optimizer steps in last.ckpt, which may be renamed while it is read."""
    try:
        return int(load(folder)["global_step"])
    except FileNotFoundError:
        return 0


def load(folder: RunFolder) -> dict[str, Any]:
    return torch.load(folder.checkpoints / "last.ckpt", weights_only=True)


def kill_after(process: subprocess.Popen[str], folder: RunFolder, steps: int) -> None:
    """Kill both processes once ``steps`` optimizer steps are saved."""
    deadline = time.monotonic() + 300
    while steps_saved(folder) < steps:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="module", params=PLAIN)
def runs(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[str, RunFolder]:
    """One process, two, and two that are killed and resumed, of which one run is a command."""
    plain = PLAIN[request.param]
    root = tmp_path_factory.mktemp("ddp")
    folders = {name: RunFolder(root / name) for name in ("one", "two", "killed")}

    def session(name: str, *arguments: str, **options: Any) -> Session:
        return Session(arguments, str(root / f"{name}.log"), **options)

    def beginning(name: str, *arguments: str, **options: Any) -> Session:
        return session(name, *plain, *arguments, f"run_dir={folders[name].path}", **options)

    sessions = [beginning("one"), beginning("two", *TWO, processes=2)]
    expected = [0, 0]
    if request.param == "quickstart":
        killed = start(*plain, *TWO, f"run_dir={folders['killed'].path}")
        kill_after(killed, folders["killed"], STEPS_BEFORE_KILL)
        assert steps_saved(folders["killed"]) < 25
        finish(start(f"resume={folders['killed'].path}"))
    else:
        fault = Fault("training step", 2 * STEPS_BEFORE_KILL + 3)
        sessions += [
            beginning("killed", *TWO, fault=fault, processes=2),
            session("killed", f"resume={folders['killed'].path}", processes=2),
        ]
        expected += [-9, 0]
    codes = run_sessions(sessions, root)
    assert codes == expected, "".join(log.read_text() for log in sorted(root.glob("*.log")))
    return folders


def test_two_processes_end_with_the_weights_of_one(runs: dict[str, RunFolder]) -> None:
    one, two = (load(runs[name]) for name in ("one", "two"))
    assert one["global_step"] == two["global_step"] == 25
    for name, weight in one["state_dict"].items():
        assert torch.allclose(weight, two["state_dict"][name], rtol=0, atol=1e-5), name


def test_two_processes_measure_what_one_does(runs: dict[str, RunFolder]) -> None:
    one, two = (history(runs[name]) for name in ("one", "two"))
    two = {key: value for key, value in two.items() if not key[0].startswith("traffic/")}
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert close(two[key], value), key


def test_a_killed_pair_resumes_bit_for_bit(runs: dict[str, RunFolder]) -> None:
    found, expected = (load(runs[name]) for name in ("killed", "two"))
    for part in ("state_dict", "optimizer_states", "rank_states", "loops"):
        assert same(found[part], expected[part]), part


def test_a_resumed_pair_has_one_history(runs: dict[str, RunFolder]) -> None:
    assert history(runs["killed"]) == history(runs["two"])


def test_a_resumed_pair_has_the_scores(runs: dict[str, RunFolder]) -> None:
    found, expected = (json.loads(runs[name].summary.read_text()) for name in ("killed", "two"))
    assert found["test"] == expected["test"]
    assert found["rows_seen"] == expected["rows_seen"]


CRASHING = """
import torch
from lightning_modules.balancers.equal import Equal

class Crashing(Equal):
    def weights(self, losses, tasks):
        if torch.distributed.get_rank() == 1:
            raise ZeroDivisionError("on one process")
        return super().weights(losses, tasks)
"""


def test_a_crash_of_one_process_leaves_evidence_of_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "crashing.py").write_text(CRASHING)
    (tmp_path / "crash.yaml").write_text("_target_: crashing.Crashing\n")
    own = ("balancer=crash.yaml", "allow_targets=[crashing]", "trainer.accelerator=cpu")
    process = start(*SMALL, *TWO, *own, "run_dir=run")
    output, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    report = (tmp_path / "run/crash-rank1.txt").read_text()
    assert "ZeroDivisionError: on one process" in report
    assert "training batch 0 of epoch 0" in report and "  rows of notes: [" in report, output
    assert "all about it: run/crash-rank1.txt" in output
    operations = (tmp_path / "run/operations.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in operations]
    assert "FAILED" in [one["status"] for one in found if one["op"] == "status"]
    sent = [one["path"] for one in found if one["op"] == "artifact"]
    assert {"crash.txt", "crash-rank1.txt"} <= set(sent)
