"""Whole runs that learn from teachers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pipeline.run_folder import RunFolder
from tests.processes import alone_and_both
from tests.sessions import Fault, Session, run_sessions
from tests.taught_processes import NAMES
from tests.test_resume import history, same

pytestmark = pytest.mark.slow

HALVES = {"train": 0.6, "valid": 0.2, "test": 0.2}
SETS = {
    "mnist": {"source": "quickstart", "name": "mnist", "rows": 100, "inputs": {"image": "image"}},
    "reviews": {
        "source": "quickstart",
        "name": "reviews",
        "rows": 60,
        "inputs": {"text": "review"},
    },
    "optdigits": {
        "source": "quickstart",
        "name": "optdigits",
        "rows": 60,
        "inputs": {"image": "image"},
    },
}
TASKS = {
    "digit": {"dataset": "mnist", "type": "classification", "target": "digit"},
    "score": {"dataset": "reviews", "type": "classification", "target": "score"},
}
SMALL = (
    "tracking=none",
    "dim=16",
    "encoder.text.pairs=128",
    "encoder.text.width=16",
    "encoder.image.width=8",
    "sampler.batch_size=16",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
    "checkpoint.every_n_steps=4",
    "data.cache=cache",
)


def data_file(folder: Path, name: str, tasks: dict[str, Any], size: int) -> str:
    used = {n for t in tasks.values() for n in (t["dataset"], t.get("unlabelled")) if n}
    sets = {n: {**SETS[n], "split": HALVES if n != "optdigits" else {"train": 1}} for n in used}
    image = {"size": [size, size], "channels": 1, "shift": 0.0, "rotate": 0.0, "scale": 0.0}
    spec = {
        "datasets": sets,
        "tasks": tasks,
        "image": image,
        "text": {"vocab_size": 300, "max_length": size},
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(spec))
    return f"data={name}.yaml"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two experts on one task each, and a student of both: once whole, once killed and resumed.

    The student prepares rows otherwise than its teachers, and has rows without labels.
    """
    root = tmp_path_factory.mktemp("experts")
    both = {**TASKS, "digit": {**TASKS["digit"], "unlabelled": "optdigits"}}
    taught = "transfer.method={name: hinton, alpha: 1.0, temperature: 1.0, "
    taught += "teachers: {digit: expert-digit, score: expert-score}}"
    student = [data_file(root, "both", both, 16), *SMALL, "transfer=annealed", taught]
    student += ["balancer=upgrad", "trainer.precision=bf16-mixed"]
    sessions = [
        *(
            Session(
                [data_file(root, name, {name: task}, 28), *SMALL, f"run_dir=expert-{name}"],
                str(root / f"{name}.log"),
            )
            for name, task in TASKS.items()
        ),
        Session([*student, "run_dir=whole"], str(root / "whole.log")),
        Session([*student, "run_dir=killed"], str(root / "killed.log"), Fault("training step", 14)),
        Session(["resume=killed"], str(root / "killed.log")),
    ]
    codes = run_sessions(sessions, root)
    log = "".join(path.read_text() for path in sorted(root.glob("*.log")))
    assert codes == [0, 0, 0, -9, 0], log
    return root


def test_experts_teach_one_student(runs: Path) -> None:
    said = (runs / "whole.log").read_text()
    assert f"digit: taught by {runs}/expert-digit on mnist, optdigits\n" in said
    assert f"score: taught by {runs}/expert-score on reviews\n" in said
    assert f"computing outputs of {runs}/expert-digit for 60 rows of optdigits, once\n" in said
    text = (runs / "whole" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    steps = [line for line in lines if "distil/digit" in line["metrics"]]
    mixes = [line["metrics"]["annealed/labels"] for line in steps]
    total = steps[-1]["step"]
    assert mixes == pytest.approx([step / total for step in range(total)])
    assert all(line["metrics"]["distil/score"] > 0 for line in steps)


def test_a_killed_student_goes_on_exactly(runs: Path) -> None:
    assert same(history(RunFolder(runs / "killed")), history(RunFolder(runs / "whole")))
    assert "computing outputs" not in (runs / "killed.log").read_text()


def test_checkpoints_hold_no_teacher(runs: Path) -> None:
    found = torch.load(runs / "whole" / "checkpoints" / "last.ckpt", weights_only=True)
    assert not [name for name in found["state_dict"] if name.startswith("transfer")]
    assert len(found["pollinate"]["sources"]) == 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of one process and of two."""
    return alone_and_both("tests.taught_processes", NAMES, tmp_path_factory.mktemp("taught"))


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_end_with_the_weights_of_one(name: str, trained: tuple[Path, Path]) -> None:
    one, two = (torch.load(f / f"{name}.pt", weights_only=True)["model"] for f in trained)
    assert one.keys() == two.keys()
    for key, value in one.items():
        atol = 0.02 if name == "bf16" else 1e-6
        assert torch.allclose(value.double(), two[key].double(), 0, atol), key
