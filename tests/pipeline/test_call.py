"""Commands called from Python: a result or an error, and the process as it was before."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_modules.callbacks.stopping import InterruptedRunError
from lightning_modules.module import MultiTaskModule
from pipeline import command, evaluate, fit, inspect, merge, plan, predict, rank_sources, study
from pipeline.command import CommandArguments, CommandResult, call_command
from pipeline.process_state import LIBRARY_LOGGERS, command_process
from pollinate.errors import PollinateError, UsageError, crash_file_of
from tests.pipeline.studies.plans import LAUNCHER
from tests.pipeline.studies.text_shop import SMALL, write_shop

RUN = [*SMALL[1:], "trainer.max_epochs=1"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def trained(shop: Path) -> fit.FitResult:
    return fit.call([*RUN, "run_dir=trained"], data="shop.yaml")


def state() -> dict[str, Any]:
    """What a call must leave as it was."""
    return {
        "variables": dict(os.environ),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "filters": list(warnings.filters),
        "warnings": warnings.showwarning,
        "levels": [logging.getLogger(name).level for name in LIBRARY_LOGGERS],
        "folder": Path.cwd(),
        "finders": list(sys.meta_path),
        "random": (random.getstate(), torch.get_rng_state().tolist()),
    }


def test_fit_returns_folder_and_scores(trained: fit.FitResult, shop: Path) -> None:
    assert trained.folder.path == shop / "trained"
    assert trained.summary.status == "finished"
    assert set(trained.summary.test) == {"mood", "speed"}
    assert (trained.exit_code, trained.interrupted) == (0, None)


@pytest.mark.usefixtures("trained")
def test_one_fit_after_the_other_leaves_the_process_as_it_was() -> None:
    before = state()
    runs = [fit.call([*RUN, f"run_dir=again-{n}"], data=Path("shop.yaml")) for n in (1, 2)]
    assert state() == before
    assert [run.folder.path.name for run in runs] == ["again-1", "again-2"]
    assert runs[0].summary.test == runs[1].summary.test


def test_the_default_folder_is_a_new_one_each_time(shop: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.training_run.TrainingRun.run", lambda self: 0)
        found = [fit.call(RUN, data="shop.yaml").folder.path for _ in range(2)]
    assert len(set(found)) == 2 and all(path.parent == shop / "runs" for path in found)


@pytest.mark.usefixtures("shop")
def test_a_fit_in_a_thread_under_a_running_loop() -> None:
    """As in a notebook."""
    found: list[fit.FitResult] = []

    async def cell() -> None:
        assert threading.current_thread() is not threading.main_thread()
        found.append(fit.call([*RUN, "run_dir=notebook"], data="shop.yaml"))

    thread = threading.Thread(target=lambda: asyncio.run(cell()))
    thread.start()
    thread.join()
    assert found[0].summary.status == "finished"


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("call", "overrides", "message"),
    [
        (fit.call, ["sed=1"], "did you mean seed?"),
        (fit.call, ["data=shop.yaml", "balancer=upgrd"], "did you mean upgrad?"),
        (study.call, ["data=shop.yaml", "seed=1"], "use seeds="),
        (merge.call, ["models=[nowhere]", "output=x"], "nowhere"),
    ],
)
def test_a_mistake_raises(call: Any, overrides: list[str], message: str, capfd: Any) -> None:
    before = state()
    with pytest.raises(PollinateError, match=message):
        call(overrides)
    assert state() == before
    assert capfd.readouterr().err == ""


def test_a_bug_passes_and_names_its_report(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MultiTaskModule, "training_step", lambda *_: {}["gone"])
    before = state()
    with pytest.raises(KeyError, match="gone") as caught:
        fit.call([*RUN, "run_dir=crashed"], data="shop.yaml")
    assert state() == before
    report = shop / "crashed/crash.txt"
    assert crash_file_of(caught.value) == report and report.exists()
    assert caught.value.__notes__ == [f"crash report: {report}"]


def test_a_stopped_run_raises_after_it_was_saved(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = MultiTaskModule.training_step

    def stop(self: MultiTaskModule, *given: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return original(self, *given)

    monkeypatch.setattr(MultiTaskModule, "training_step", stop)
    before = state()
    with pytest.raises(InterruptedRunError, match="SIGINT"):
        fit.call([*RUN, "run_dir=stopped"], data="shop.yaml")
    assert state() == before
    monkeypatch.undo()
    monkeypatch.chdir(shop)
    assert fit.call(["resume=stopped"]).summary.status == "finished"


def test_a_second_interrupt_is_no_exit() -> None:
    def run(config: dict[str, Any], arguments: CommandArguments) -> CommandResult:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)  # as Lightning does

    with pytest.raises(KeyboardInterrupt):
        call_command("evaluate", run, ["checkpoint=a"])


def test_evaluate_and_predict(trained: fit.FitResult, shop: Path) -> None:
    best = f"checkpoint={trained.folder.path}"
    found = evaluate.call([best, "split=test"])
    assert found.evaluation.scores == trained.summary.test
    assert found.file == trained.folder.path / "evaluation-test.json"
    predictions = predict.call([best, "input=notes.csv", "output=answers.csv"])
    assert predictions.file == shop / "answers.csv" and predictions.file.exists()


@pytest.mark.usefixtures("shop")
def test_inspect_and_plan() -> None:
    looked = inspect.call(["run_dir=looked", "tracking=none"], data="shop.yaml")
    assert set(looked.findings.facts) == {"notes", "trips"} and looked.page.exists()
    planned = plan.call(SMALL[1:-1], data="shop.yaml")
    assert planned.largest_batch is None and planned.cost.parts


def test_merge(trained: fit.FitResult, shop: Path) -> None:
    models = f"models=[{trained.folder.path},{trained.folder.path}]"
    found = merge.call([models, "method=average", "output=merged", "tracking=none"])
    assert found.folder.path == shop / "merged"
    assert found.summary.test == trained.summary.test


def test_rank_sources(trained: fit.FitResult, shop: Path) -> None:
    found = rank_sources.call(
        [*SMALL[1:], f"sources=[{trained.folder.path}]", "steps=0", "run_dir=ranked"],
        data="shop.yaml",
    )
    assert found.folder.path == shop / "ranked" and set(found.report.ranking.tasks) == {
        "mood",
        "speed",
    }


@pytest.mark.usefixtures("shop")
def test_a_study_and_the_same_again() -> None:
    before = state()
    told = [*SMALL[1:], "seeds=[0,1]", "run_dir=compared", f"launcher={LAUNCHER}"]
    first = study.call(told, data="shop.yaml")
    again = study.call(told, data="shop.yaml")
    assert state() == before
    assert first.analysis is not None and first.report is not None and first.report.exists()
    assert again.report == first.report
    assert [trial.status for trial in first.results.trials] == ["finished"] * 6
    planned = study.call([*told, "run_dir=planned", "dry_run=true"], data="shop.yaml")
    assert planned.results is None


def test_processes_look_where_this_one_looks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    with command_process():
        assert os.environ["PYTHONSAFEPATH"] == "1"
    assert "PYTHONSAFEPATH" not in os.environ
    monkeypatch.syspath_prepend(str(tmp_path))
    with command_process():
        assert "PYTHONSAFEPATH" not in os.environ


def test_allowed_packages_are_found_where_the_user_stands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_own_pkg.py").write_text("VALUE = 3\n")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert command.own_packages(["seed=1", "allow_targets=[my_own_pkg, 'b.c']"]) == [
        "my_own_pkg",
        "b.c",
    ]
    with command_process(["my_own_pkg"]):
        import my_own_pkg

    assert my_own_pkg.VALUE == 3
    del sys.modules["my_own_pkg"]


def test_usage_errors_are_of_the_public_kind() -> None:
    with pytest.raises(UsageError):
        fit.call(["nonsense"])
