"""``python -m pipeline.study`` from the command line to the report."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.command import Arguments, parse_arguments
from pipeline.config import compose
from pipeline.study import main
from pipeline.studying.prepare import keep_plan, make_plan, wanted
from tests.pipeline.studying.plans import LAUNCHER, ROOT
from tests.pipeline.studying.warm import warm

SMALL = [
    "data=shop.yaml",
    "dim=8",
    "optimizer.lr=0.03",
    "encoder.text.width=8",
    "encoder.text.pairs=64",
    "sampler.batch_size=16",
    "trainer.max_epochs=5",
    "gradients.every_n_steps=0",
    "tracking=none",
]
WORDS = ("fine", "poor", "nice", "dear", "slow", "fast", "large", "small")


def write_shop(folder: Path, without: str | None = None) -> None:
    """Two data sets of texts, a task each; ``without``: a split where speed has no labels."""
    draw = random.Random(0)
    datasets: dict[str, Any] = {}
    for name, target in (("notes", "mood"), ("trips", "speed")):
        lines = [f"text,{target},part"]
        for row in range(96):
            label, part = "ab"[row % 2], ("train", "train", "valid", "test")[row // 2 % 4]
            text = " ".join(
                [
                    *draw.choices(WORDS, k=3),
                    "good" if (label == "a") != (draw.random() < 0.2) else "bad",
                ]
            )
            gone = target == "speed" and part == without
            lines.append(f"{text} {row},{'' if gone else label},{part}")
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
        source = {"source": "csv", "path": f"{name}.csv", "inputs": {"text": "text"}}
        datasets[name] = {**source, "split": {"column": "part"}}
    tasks = {
        target: {"dataset": name, "type": "classification", "target": target}
        for name, target in (("notes", "mood"), ("trips", "speed"))
    }
    text = {"vocab_size": 300, "max_length": 16}
    spec = {"datasets": datasets, "tasks": tasks, "text": text}
    (folder / "shop.yaml").write_text(yaml.safe_dump(spec))


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Starts a real run in a tenth of the time."""
    with warm(tmp_path_factory.mktemp("warm") / "socket") as command:
        yield command


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, launcher: str) -> Iterator[Path]:
    """A folder with a study that is finished, and what it printed."""
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        command = [sys.executable, "-m", "pipeline.study", *SMALL, "seeds=[0,1]", "run_dir=one"]
        command += [f"launcher={launcher}", "study.transfers=[[mood,speed]]", "jobs=2"]
        environment = {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, check=False
        )
        (folder / "printed").write_text(done.stdout + done.stderr)
        assert done.returncode == 0, done.stdout + done.stderr
        yield folder


@pytest.mark.slow
def test_a_study_prints_its_plan_and_its_answers(finished: Path) -> None:
    printed = (finished / "printed").read_text()
    assert "8 of 8 trials left: about" in printed
    assert "done: transfer:mood>speed, seed 1 in" in printed
    assert "delta_m" in printed
    assert f"report {Path('one/report.html')}" in printed


@pytest.mark.slow
def test_arms_differ_in_nothing_but_their_tasks(finished: Path) -> None:
    results = json.loads((finished / "one" / "results.json").read_text())["results"]
    trials = {(t["arm"], t["seed"]): t for t in results["trials"]}
    assert {t["status"] for t in trials.values()} == {"finished"}
    joint = trials["joint", 0]["rows_seen"]
    assert trials["alone:mood", 0]["rows_seen"] == {"mood": joint["mood"]}
    assert trials["joint", 0]["labels"] == {"mood": 48, "speed": 48}
    assert trials["joint", 0]["test"] != trials["joint", 1]["test"]


@pytest.mark.slow
def test_a_finished_study_is_only_reported_anew(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished)
    before = (finished / "one" / "results.csv").read_bytes()
    (finished / "one" / "report.html").unlink()
    assert main(["resume=one"]) == 0
    assert "all trials are done" in capsys.readouterr().out
    assert (finished / "one" / "report.html").exists()
    assert (finished / "one" / "results.csv").read_bytes() == before


@pytest.mark.slow
def test_the_same_command_later_says_the_same(
    finished: Path, launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    assert main([*SMALL, "seeds=[0]", "run_dir=two", f"launcher={launcher}", "jobs=2"]) == 0
    for arm in ("joint", "alone-speed"):
        one, two = (
            json.loads((finished / n / "trials" / arm / "seed-0" / "summary.json").read_text())
            for n in ("one", "two")
        )
        assert one["test"] == two["test"]


def test_another_studys_folder_is_refused_with_what_differs(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan_only(shop, "one")
    assert main([*stand_in("one"), "dim=16", "balancer=uncertainty", "dry_run=true"]) == 2
    error = capsys.readouterr().err
    assert f"run_dir {shop / 'one'} belongs to another study: balancer._target_ is" in error
    assert "dim is 16, there 8" in error
    assert main([*stand_in("one"), "seeds=[0]", "dry_run=true"]) == 2
    assert "seeds is [0], there [0, 1]; seeds can only be added" in capsys.readouterr().err
    assert main([*stand_in("one"), "seeds=[0,1,2]", "jobs=3", "dry_run=true"]) == 0


def stand_in(run_dir: str) -> list[str]:
    return [*SMALL, "seeds=[0,1]", f"run_dir={run_dir}", f"launcher={LAUNCHER}"]


def plan_only(folder: Path, run_dir: str) -> None:
    """Leave a study's folder as one that was killed after it was planned."""
    overrides = stand_in(run_dir)
    want = wanted(compose("study", overrides), Arguments(overrides=overrides))
    plan = make_plan(want, SMALL, time.perf_counter(), timed=False)
    keep_plan(plan, want)


def test_a_folder_that_is_no_studys_is_refused(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop / "full").mkdir()
    (shop / "full" / "letter.txt").touch()
    assert main([*SMALL, "run_dir=full"]) == 2
    assert "which holds files but no study.json; choose another run_dir" in capsys.readouterr().err
    assert main(["resume=full"]) == 2
    assert "resume must be last or a study's folder" in capsys.readouterr().err
    assert main(["resume=last"]) == 2
    assert "resume=last found no study below" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["seed=1"], "seed is set for each trial by the study; use seeds=[0,1,2]"),
        (
            ["study.variants.up=balancer=upgrd"],
            "study.variants.up: balancer has no option 'upgrd'; did you mean upgrad?",
        ),
        (
            ["study.variants.up=balancer=upgrad balancer.epss=1"],
            "study.variants.up: unknown option balancer.epss=1",
        ),
        (
            ["study.variants.up=seed=1"],
            "study.variants.up sets seed, which the study sets for every trial",
        ),
        (
            ["study.search.keys.optimizer.lrr=[1e-3,1e-2]"],
            "study.search.keys: unknown option optimizer.lrr=0.001",
        ),
    ],
)
def test_what_cant_be_run_is_refused_before_anything_is(
    given: list[str], message: str, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna")
    assert main([*SMALL, "run_dir=one", *given]) == 2
    assert message in capsys.readouterr().err
    assert not (shop / "one").exists()


def test_a_task_without_validation_labels_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shop(tmp_path, without="valid")
    monkeypatch.chdir(tmp_path)
    assert main([*SMALL, "run_dir=one"]) == 1
    error = capsys.readouterr().err
    assert "task speed has no labels in valid (data set trips)" in error


def test_a_task_without_test_labels_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shop(tmp_path, without="test")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STAND_IN_PAUSE", "0")
    arguments = [*SMALL, "run_dir=one", "seeds=[0]", f"launcher={LAUNCHER}", "jobs=3"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "note: speed: the test rows have no labels, so validation scores stand in" in printed
    assert "note: one seed: differences have no intervals" in printed


def test_failures_are_listed_and_the_rest_is_reported(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STAND_IN_PAUSE", "0")
    assert main([*stand_in("one"), "study.variants.bad=dim=2", "jobs=3"]) == 1
    printed = capsys.readouterr().out
    assert "failed: bad, seed 0: memory ran out in batches of 8 rows" in printed
    assert "2 trials have no result; to try them again" in printed
    assert (shop / "one" / "report.html").exists()
    assert main([*SMALL, "run_dir=all", "dim=2", f"launcher={LAUNCHER}", "jobs=3"]) == 1
    assert "all 9 trials have failed, the first one so: memory ran out" in capsys.readouterr().err


def test_dry_run_prints_commands_that_compose(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*SMALL, "dry_run=true", "study.pairs=all", "study.pair_weights=[0.5]"]
    assert main([*arguments, "study.transfers=all", "study.labels=[0.1]"]) == 0
    lines = [x for x in capsys.readouterr().out.splitlines() if x.startswith("python -m")]
    assert len(lines) == 3 * (3 + 2 + 2 + 5)
    for line in lines[:12]:
        words = parse_arguments(shlex.split(line)[3:])
        config = compose("fit", words.overrides, words.config_dirs)
        assert config["sampler"]["batch_size"] in (8, 16)
    assert not list(shop.glob("runs/*"))


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("STAND_IN_PAUSE", "0.5")
    command = [sys.executable, "-m", "pipeline.study", *stand_in("one")]
    study = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert study.stdout is not None
    for line in study.stdout:
        if line.startswith("started:"):
            break
    time.sleep(0.7)
    study.send_signal(signal.SIGINT)
    rest, _ = study.communicate()
    assert study.returncode == 130
    assert "stopped by SIGINT; everything is saved. Go on with" in rest
    assert "python -m pipeline.study resume=one" in rest
    monkeypatch.setenv("STAND_IN_PAUSE", "0")
    assert main(["resume=one", "jobs=3"]) == 0


def test_torch_is_not_imported_for_a_typo() -> None:
    code = (
        "import sys; from pipeline.study import main; "
        "main(['study.pairs=[[digit,sentimen]]']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "did you mean sentiment?" in done.stderr


def test_shipped_studies_are_explained() -> None:
    page = (ROOT / "docs" / "study.md").read_text()
    for file in (ROOT / "configs" / "study").glob("*.yaml"):
        assert f"`{file.stem}`" in page


RECIPES = {
    "torchrun --standalone --nproc-per-node=2": ["trainer=ddp", "trainer.devices=2"],
    "srun --exclusive --ntasks=1 --gpus=1 python": ["jobs=4"],
}


@pytest.mark.parametrize("launcher", RECIPES)
def test_recipes_of_the_documents_start_each_trial(
    launcher: str, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launcher in (ROOT / "docs" / "study.md").read_text()
    given = [*SMALL, *RECIPES[launcher], f"launcher={launcher}", "dry_run=true", "seeds=[0]"]
    assert main(given) == 0
    lines = [x for x in capsys.readouterr().out.splitlines() if x.startswith(f"{launcher} -m")]
    assert len(lines) == 3
    for line in lines:
        found = shlex.split(line)
        words = found[found.index("pipeline.fit") + 1 :]
        assert compose("fit", words)["trainer"].get("devices") in (2, "auto", 1)
