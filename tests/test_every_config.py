"""Every shipped option has a row, and trains."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.configuration.groups import SHIPPED, groups, options
from tests.rows.groups import ROWS
from tests.sessions import Session, run_sessions

FOLDERS = [SHIPPED]
SETTINGS = {"data", "experiment", "study", "tracking", "trainer"}  # groups that hold no methods
UNTRAINED = {"method", "score", "study"}  # groups that take no part in a training
OPTIONS = [f"{group}/{option}" for group in groups(FOLDERS) for option in options(group, FOLDERS)]
TRAINED = [name for name in OPTIONS if name.partition("/")[0] not in UNTRAINED]
METHODS = [name for name in OPTIONS if name.partition("/")[0] not in SETTINGS]
TWO_STEPS = ("tracking=none", "trainer.max_steps=2", "dim=16", "sampler.batch_size=8")
SMOKE = "experiment=smoke"

DRAWN = "data/quickstart"

# {option: what selects it, and what it needs in a test}
SELECTED = {row.name: row.train for row in ROWS if row.train} | {
    "trainer/ddp": ("trainer=ddp", "trainer.devices=1"),
    "trainer/fsdp2": ("trainer=fsdp2", "trainer.devices=1", "trainer.accelerator=cpu"),
    "trainer/local_sgd": ("trainer=local_sgd", "trainer.devices=1"),
    "trainer/diloco": ("trainer=diloco", "trainer.devices=1"),
    "trainer/branches": (
        "trainer=branches",
        "trainer.devices=1",
        "transfer=fork_merge",
        "transfer.targets=[digit]",
        "transfer.every_n_steps=1",
    ),
    "tracking/mlflow": ("tracking=mlflow", "tracking.uri=sqlite:///mlflow.db"),
}


# what a step will cost is estimated before the first: one option of each group;
# tests/pipeline/planning compares estimates with what was measured
ESTIMATED = {group: name for name in reversed(TRAINED) for group in [name.rpartition("/")[0]]}

UNLABELLED = {"transfer/lwf": {"sentiment"}}  # tasks that a run has no labels of


def arguments(name: str) -> list[str]:
    """The command line that trains an option for two steps; later arguments win."""
    group, _, option = name.rpartition("/")
    chosen = SELECTED.get(name, (f"{group}={option}",))
    own_data = any(argument.startswith("data=") for argument in chosen)
    base = () if own_data else (SMOKE,)  # the experiment is about the quickstart's data
    return [*base, *TWO_STEPS, *chosen, f"run_dir={directory(name)}"]


def directory(name: str) -> str:
    return name.replace("/", "-")


def test_every_method_has_one_row() -> None:
    assert Counter(row.name for row in ROWS) == Counter(METHODS)


@dataclass(frozen=True)
class Trained:
    folder: Path
    code: int
    log: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """Train every option for two steps; {option: what came of it}."""
    root = tmp_path_factory.mktemp("options")
    logs = {name: root / f"{directory(name)}.log" for name in TRAINED}
    sessions = [
        Session(arguments(name), str(log), plots=name == DRAWN, estimate=name in ESTIMATED.values())
        for name, log in logs.items()
    ]
    codes = run_sessions(sessions, root)
    return {
        name: Trained(root / directory(name), code, log.read_text())
        for (name, log), code in zip(logs.items(), codes, strict=True)
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_trains(name: str, trained: dict[str, Trained]) -> None:
    run = trained[name]
    assert run.code == 0, run.log
    assert "warning" not in run.log.lower()
    summary = json.loads((run.folder / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("finished", 2)
    labelled = {task for task, rows in summary["rows_seen"].items() if rows}
    assert summary["test"].keys() == labelled
    assert summary["rows_seen"].keys() - labelled == UNLABELLED.get(name, set())


@pytest.mark.slow
def test_draws_its_plots(trained: dict[str, Trained]) -> None:
    run = trained[DRAWN]
    tasks = json.loads((run.folder / "summary.json").read_text())["test"]
    pictures = {path.name for path in (run.folder / "plots").iterdir()}
    assert pictures == {"curves.png", "gradients.png", *(f"confusion-{t}.png" for t in tasks)}
