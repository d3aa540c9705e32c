"""Two processes train as one does, and resume exactly.

``tests/test_packaging.py`` starts two with the real command alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import pollinate as po
from pipeline.run_folder import RunFolder
from tests.pipeline.studies.text_shop import SMALL, write_shop
from tests.pipeline.test_frozen_features import close
from tests.sessions import SMOKE, STREAMED, Fault, Session, run_sessions
from tests.test_resume import history, same

pytestmark = pytest.mark.slow

TWO = ("trainer=ddp", "trainer.devices=2")
STEPS, STEPS_BEFORE_KILL = 17, 8  # of the optimizer
EXACT = (
    "trunk.dropout=0",
    "data.text.dropout=0",
    "encoder.image.dropout=0",
    "encoder.text.dropout=0",
    "balancer=uncertainty",
    "optimizer=momentum",
    "trainer.accumulate_grad_batches=2",
    "trainer.max_epochs=-1",
    f"trainer.max_steps={STEPS}",
    # in 32 bits a rounding error decides now and then which pixel is the largest in max pooling
    "trainer.precision=64-true",
    "keep_outputs=[valid,test]",
)
# odd batches: one process has more rows than the other
PLAIN = {
    "quickstart": (*SMOKE, *EXACT, "preset=none", "sampler.batch_size=37", "data.text.wide=true"),
    "streamed, every type of task": (*STREAMED, *EXACT, "sampler.batch_size=7"),
}


def load(folder: RunFolder) -> dict[str, Any]:
    return torch.load(folder.checkpoints / "last.ckpt", weights_only=True)


@pytest.fixture(scope="module", params=PLAIN)
def runs(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[str, RunFolder]:
    """One process, two, and two that are killed and resumed; with quickstart Lightning starts one.

    The others know of each other from the environment, as those that torchrun starts do.
    """
    plain = PLAIN[request.param]
    root = tmp_path_factory.mktemp("ddp")
    folders = {name: RunFolder(root / name) for name in ("one", "two", "killed")}

    def session(name: str, *arguments: str, **options: Any) -> Session:
        return Session(arguments, str(root / f"{name}.log"), **options)

    def beginning(name: str, *arguments: str, **options: Any) -> Session:
        return session(name, *plain, *arguments, f"run_dir={folders[name].path}", **options)

    fault = Fault("training step", 2 * STEPS_BEFORE_KILL + 3)
    pair: dict[str, Any] = {"processes": 2}
    started: dict[str, Any] = {"command": True} if request.param == "quickstart" else pair
    sessions = [
        beginning("one"),
        beginning("two", *TWO, **pair),
        beginning("killed", *TWO, fault=fault, **started),
        session("killed", f"resume={folders['killed'].path}", **started),
    ]
    codes = run_sessions(sessions, root)
    expected = [0, 0, -9, 0]
    assert codes == expected, "".join(log.read_text() for log in sorted(root.glob("*.log")))
    return folders


def test_two_processes_end_with_the_weights_of_one(runs: dict[str, RunFolder]) -> None:
    one, two = (load(runs[name]) for name in ("one", "two"))
    assert one["global_step"] == two["global_step"] == STEPS
    for name, weight in one["state_dict"].items():
        assert torch.allclose(weight, two["state_dict"][name], rtol=0, atol=1e-5), name


def test_two_processes_measure_what_one_does(runs: dict[str, RunFolder]) -> None:
    one, two = (history(runs[name]) for name in ("one", "two"))
    two = {key: value for key, value in two.items() if not key[0].startswith("traffic/")}
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert close(two[key], value), key


def test_two_processes_keep_the_outputs_of_one_and_these_have_its_scores(
    runs: dict[str, RunFolder],
) -> None:
    one, two = (po.Run(runs[name].path) for name in ("one", "two"))
    tasks = one.model().tasks
    for split in ("valid", "test"):
        kept, others, scores = one.outputs(split), two.outputs(split), one.summary[split]
        assert list(kept) == list(others) == list(scores)
        for name, own in kept.items():
            metrics = tasks[name].metrics()
            metrics.update(tasks[name].metric_input(own["output"].double()), own["target"])
            for metric, value in metrics.compute().items():
                if not value.dim():
                    number = None if value.isnan() else value.item()
                    assert close(number, scores[name][metric]), (name, metric)
            assert torch.allclose(own["output"], others[name]["output"], atol=1e-4), name
            assert torch.equal(own["target"], others[name]["target"]), name
            assert same(own["rows"], others[name]["rows"]), name


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


def test_a_crash_of_one_process_leaves_evidence_of_both(tmp_path: Path) -> None:
    write_shop(tmp_path)
    (tmp_path / "crashing.py").write_text(CRASHING)
    (tmp_path / "crash.yaml").write_text("_target_: crashing.Crashing\n")
    own = ("balancer=crash.yaml", "allow_targets=[crashing]", "trainer.accelerator=cpu")
    log = tmp_path / "run.log"
    arguments = [*SMALL, *TWO, *own, "run_dir=run"]
    (code,) = run_sessions([Session(arguments, str(log), command=True)], tmp_path)
    output = log.read_text()
    assert code not in (0, 2), output
    report = (tmp_path / "run/crash-rank1.txt").read_text()
    assert "ZeroDivisionError: on one process" in report
    assert "training batch 0 of epoch 0" in report and "  rows of notes: [" in report, output
    assert "all about it: run/crash-rank1.txt" in output
    operations = (tmp_path / "run/operations.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in operations]
    assert "FAILED" in [one["status"] for one in found if one["op"] == "status"]
    sent = [one["path"] for one in found if one["op"] == "artifact"]
    assert {"crash.txt", "crash-rank1.txt"} <= set(sent)
