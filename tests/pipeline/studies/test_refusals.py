"""What ``python -m pipeline.study`` refuses, before anything is run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from pipeline.engines.process import ProcessLock
from pipeline.studies.plan import load_plan
from pipeline.study import LEADER, main
from tests.pipeline.studies.text_shop import LAUNCHER, SMALL, plan_only, stand_in, write_shop


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


def test_seeds_that_were_added_stay(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan_only(shop, "one")
    made = load_plan(shop / "one")
    assert made is not None
    made.seeds.append(2)
    made.save(shop / "one")
    assert main(["resume=one", f"launcher={LAUNCHER}", "dry_run=true"]) == 0
    assert "9 of 9 trials left" in capsys.readouterr().out
    assert main([*stand_in("one"), "seeds=[0,1,2]", "jobs=3", "dry_run=true"]) == 0


def test_a_folder_of_a_version_with_fewer_keys_is_resumed(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan_only(shop, "one")
    file = shop / "one" / "config.yaml"
    saved = yaml.safe_load(file.read_text())
    assert saved.pop("pause_after", 0) is None
    assert saved.pop("engine")
    file.write_text(yaml.safe_dump(saved))
    again = ["resume=one", f"launcher={LAUNCHER}", "dry_run=true"]
    assert main(again) == 0
    assert "6 of 6 trials left" in capsys.readouterr().out
    del saved["preset"]  # one that isn't null would train other models
    file.write_text(yaml.safe_dump(saved))
    assert main(again) == 2
    assert "preset is 'none', there not set" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["", '{"format": 1, "na', "[]"])
def test_a_damaged_plan_is_named(
    damage: str, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan_only(shop, "one")
    (shop / "one" / "study.json").write_text(damage)
    assert main(["resume=one"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {shop / 'one' / 'study.json'} ")
    assert error.count("\n") == 1


def test_a_launcher_that_isnt_there_is_named(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "run_dir=one", "launcher=srunn --gpus=1"]) == 2
    assert "there is no srunn on this machine" in capsys.readouterr().err
    assert main([*SMALL, "run_dir=one", 'launcher="the box\'s own"']) == 2
    assert "launcher must be a command as a shell takes it" in capsys.readouterr().err
    assert not (shop / "one").exists()


def test_a_folder_where_another_process_leads_is_refused(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan_only(shop, "one")
    lock = ProcessLock(shop / "one" / LEADER)
    assert lock.acquire()
    lock.sign()
    again = ["resume=one", f"launcher={LAUNCHER}"]
    assert main(again) == 1
    error = capsys.readouterr().err
    assert f"error: the study in {shop / 'one'} runs already: process {os.getpid()} on " in error
    assert "engine=ray or engine=slurm" in error
    assert not list((shop / "one").glob("trials/*"))
    assert main([*again, "dry_run=true"]) == 0  # only reads
    lock.release()
    (shop / "one" / LEADER).write_text("")  # as an earlier version left it
    assert lock.acquire()
    assert main(again) == 1
    assert "runs already: another process; wait" in capsys.readouterr().err
    lock.release()


def test_an_engine_that_isnt_installed_names_its_extra(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pollinate.requirements.installed_spec", lambda name: None)
    for engine, package in (("ray", "ray"), ("slurm", "submitit")):
        assert main([*SMALL, "run_dir=one", f"engine={engine}"]) == 2
        told = f'{package} is not installed; run pip install "pollinate[{engine}]"'
        assert told in capsys.readouterr().err
    assert not (shop / "one").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["engine=rya"], "engine has no option 'rya'; did you mean ray?"),
        (["engine=ray", "engine.gpu=1"], "unknown option engine.gpu=1"),
        (["engine=ray", "engine.cpus=0"], "engine.cpus must be > 0 and engine.gpus >= 0"),
        (["engine=ray", "engine.address=127.0.0.1:1"], "engine.address=127.0.0.1:1 can't be reach"),
        (["experiment=theirs.yaml"], "engine.address is only for the command line, a file sets"),
    ],
)
def test_a_wrong_engine_is_told_before_anything_is_planned(
    given: list[str], message: str, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("ray", "submitit"):
        pytest.importorskip(package)
    (shop / "theirs.yaml").write_text("# @package _global_\nengine: {address: theirs:6379}\n")
    assert main([*SMALL, "run_dir=one", *given]) > 0
    assert message in capsys.readouterr().err
    assert not (shop / "one").exists()


def test_arms_of_the_same_folder_are_refused(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["study.variants.single_task-mood=dim=4", "dry_run=true"]
    assert main([*SMALL, "run_dir=one", *given]) == 2
    assert (
        "single_task:mood and single_task-mood would share the folder trials/single_task-mood"
        in (capsys.readouterr().err)
    )


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
