"""Every shipped option has a row, and trains."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import pytest

from pipeline.configuration.groups import SHIPPED, groups, options
from tests.rows.groups import ROWS
from tests.sessions import Session, run_sessions

FOLDERS = [SHIPPED]
# groups that hold no methods
SETTINGS = {"data", "engine", "experiment", "space", "study", "tracking", "trainer"}
# groups that take no part in a training
UNTRAINED = {"engine", "method", "score", "space", "study"}
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
ESTIMATED = set({name.rpartition("/")[0]: name for name in reversed(TRAINED)}.values())

UNLABELLED = {"transfer/lwf": {"sentiment"}}  # tasks that a run has no labels of


# groups whose options have nothing to do with a balancer: each trains beside one
BESIDE = ("trunk", "sampler", "optimizer", "schedule", "augment", "tune")
# groups that train beside the balancers that are left, one after another: a transfer needs the
# source's encoders and trunk
AFTERWARDS = ("transfer", "encoder/text")
ALONE = ("transfer/lwf", "transfer/sequence_level")  # change the data


def selection(name: str) -> tuple[str, ...]:
    """What selects an option."""
    group, _, option = name.rpartition("/")
    return tuple(SELECTED.get(name, (f"{group}={option}",)))


def runs() -> dict[tuple[str, ...], list[str]]:
    """{what a run selects: options that it trains}; an option of each group, where that may be."""
    groups: dict[str, list[str]] = {}
    for name in TRAINED:
        groups.setdefault(name.rpartition("/")[0], []).append(name)
    balancers = groups.pop("balancer")
    first = [groups.pop(group) for group in BESIDE]
    second = [name for group in AFTERWARDS for name in groups.pop(group) if name not in ALONE]
    begin = max(map(len, first))
    beside = zip_longest(balancers, *first, [None] * begin + second)
    together = [list(filter(None, names)) for names in beside] + [[name] for name in ALONE]
    found: dict[tuple[str, ...], list[str]] = {}
    for names in [*together, *([name] for own in groups.values() for name in own)]:
        chosen = tuple(argument for name in names for argument in selection(name))
        found.setdefault(chosen, []).extend(names)  # several types of task are in one data set
    return found


def arguments(chosen: Sequence[str], folder: str) -> list[str]:
    """The command line that trains for two steps; later arguments win."""
    own_data = any(argument.startswith("data=") for argument in chosen)
    base = () if own_data else (SMOKE,)  # the experiment is about the quickstart's data
    return [*base, *TWO_STEPS, *chosen, f"run_dir={folder}"]


def directory(names: Sequence[str]) -> str:
    return names[0].replace("/", "-")


def test_every_method_has_one_row() -> None:
    assert Counter(row.name for row in ROWS) == Counter(METHODS)


@dataclass(frozen=True)
class Trained:
    folder: Path
    code: int
    log: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> dict[str, Trained]:
    """Train every option for two steps; {option: what came of it}."""
    root = tmp_path_factory.mktemp("options")
    shutil.copy2(empty_database, root)  # what "tracking/mlflow" writes into
    # what others start from comes first
    planned = dict(sorted(runs().items(), key=lambda run: DRAWN not in run[1]))
    logs = [str(root / f"{directory(names)}.log") for names in planned.values()]
    sessions = [
        Session(
            arguments(chosen, directory(names)),
            log,
            model=True,
            estimate=not ESTIMATED.isdisjoint(names),
        )
        for (chosen, names), log in zip(planned.items(), logs, strict=True)
    ]
    codes = run_sessions(sessions, root)
    return {
        name: Trained(root / directory(names), code, Path(log).read_text())
        for names, log, code in zip(planned.values(), logs, codes, strict=True)
        for name in names
    }


def test_every_option_is_trained_once() -> None:
    assert Counter(name for names in runs().values() for name in names) == Counter(TRAINED)


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
