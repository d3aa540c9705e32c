"""Which checkpoint a run goes on from, and with which configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from lightning_modules.checkpoints import SPEC_FORMAT, read_spec, write_checkpoint
from pipeline.configuration.schema import dotted_items
from pipeline.resume import (
    FIXED_KEYS,
    ResumePoint,
    changed_fixed_keys,
    find_resume_point,
    find_run_and_checkpoint,
    merge_given_keys,
)
from pipeline.run_folder import RunFolder
from pollinate.errors import PollinateError, UsageError

SAVED: dict[str, Any] = {
    "name": "a",
    "seed": 0,
    "run_dir": None,
    "resume": None,
    "allow_targets": [],
    "data": {"datasets": {"notes": {"rows": 5}}},
    "encoder": {"text": {"_target_": "pollinate.encoders.Bag", "width": 16}},
    "balancer": {"_target_": "pollinate.balancers.Equal"},
    "tracking": {"_target_": "pollinate.tracking.LocalRunLogger"},
    "trainer": {"max_epochs": 2, "accumulate_grad_batches": 1},
}


def changed(**values: Any) -> dict[str, Any]:
    return {**SAVED, **values}


def checkpoint(path: Path, step: int = 1, **spec: Any) -> Path:
    """Write a checkpoint of a run."""
    spec = {"format": SPEC_FORMAT, "config": SAVED, "learnt": {"tasks": {}}} | spec
    write_checkpoint({"state_dict": {}, "global_step": step, "pollinate": spec}, path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run folder with last.ckpt and an older previous.ckpt."""
    found = RunFolder(tmp_path / "runs" / "one")
    found.create()
    found.write_config(SAVED)
    for age, name in enumerate(["previous.ckpt", "last.ckpt"]):
        path = checkpoint(found.checkpoints / name, step=age)
        os.utime(path, (-age, -age))  # a copy, or the clock was set back
    return found


def resumed(folder: RunFolder, *given: str, **values: Any) -> ResumePoint:
    return find_resume_point(changed(**values, resume=str(folder.path)), given)


def test_a_run_folder_goes_on_from_last(folder: RunFolder) -> None:
    found = resumed(folder)
    assert found.folder == folder
    assert found.checkpoint == folder.checkpoints / "last.ckpt"
    assert found.learnt == {"tasks": {}}
    assert found.config == changed(resume=str(folder.path))


def test_a_checkpoint_can_be_named(folder: RunFolder) -> None:
    path = folder.checkpoints / "previous.ckpt"
    assert find_run_and_checkpoint(str(path), SAVED) == (folder, path)


def test_a_torn_named_checkpoint_is_replaced_with_a_warning(folder: RunFolder) -> None:
    last = folder.checkpoints / "last.ckpt"
    os.truncate(last, 100)
    with pytest.warns(UserWarning, match=str(last)):
        assert find_run_and_checkpoint(str(last), SAVED) == (
            folder,
            folder.checkpoints / "previous.ckpt",
        )


def test_last_is_the_newest_run(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.path.parents[1])
    other = RunFolder(folder.path.with_name("two"))
    other.create()
    other.write_config(SAVED)
    assert find_run_and_checkpoint("last", SAVED) == (other, None)
    os.utime(folder.checkpoints / "last.ckpt", (2**33, 2**33))
    assert find_run_and_checkpoint("last", SAVED) == (folder, folder.checkpoints / "last.ckpt")


def test_last_of_a_run_folder(folder: RunFolder) -> None:
    found, path = find_run_and_checkpoint("last", changed(run_dir=str(folder.path)))
    assert (found, path) == (folder, folder.checkpoints / "last.ckpt")


def test_a_run_stopped_before_its_first_checkpoint_starts_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create()
    folder.write_config(SAVED)
    found = resumed(folder)
    assert (found.checkpoint, found.learnt) == (None, None)
    assert found.config["encoder"] == SAVED["encoder"]


def test_a_folder_without_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PollinateError, match="no good checkpoint among no files at all"):
        resumed(RunFolder(tmp_path))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nowhere", "must be last, a checkpoint, a run folder or an MLflow run id; nowhere is"),
        ("no/such.ckpt", r"there is no checkpoint .*no/such\.ckpt; give an existing file"),
        ("0" * 32, "resume by an MLflow run id needs a tracking server; set tracking=mlflow"),
    ],
)
def test_what_cannot_be_found_is_named(
    what: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PollinateError, match=message):
        find_run_and_checkpoint(what, SAVED)


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "a.ckpt", format=SPEC_FORMAT + 1)
    with pytest.raises(PollinateError) as caught:
        read_spec(path)
    assert f"has format {SPEC_FORMAT + 1}, this version reads {SPEC_FORMAT}" in str(caught.value)


def test_a_stranger_s_checkpoint_is_refused(tmp_path: Path) -> None:
    write_checkpoint({"state_dict": {}}, tmp_path / "a.ckpt")
    with pytest.raises(PollinateError, match=r"was not written by pipeline\.fit"):
        read_spec(tmp_path / "a.ckpt")


def test_given_keys_win_and_others_stay() -> None:
    composed = changed(seed=9, trainer={"max_epochs": 7}, name="b", resume="last")
    found = merge_given_keys(SAVED, composed, ["trainer.max_epochs"])
    assert found == changed(trainer={"max_epochs": 7, "accumulate_grad_batches": 1}, resume="last")


def test_a_given_group_replaces_the_saved_one() -> None:
    other = {"text": {"_target_": "pollinate.encoders.Conv"}}
    assert merge_given_keys(SAVED, changed(encoder=other), ["encoder/text"])["encoder"] == other


def test_merging_leaves_both_alone() -> None:
    saved, composed = changed(), changed(trainer={"max_epochs": 7})
    merge_given_keys(saved, composed, ["trainer.max_epochs"])["trainer"]["max_epochs"] = 0
    assert saved == SAVED
    assert composed["trainer"] == {"max_epochs": 7}


def test_differing_names_keys_with_both_values() -> None:
    other = changed(
        seed=1,
        encoder={"text": {**SAVED["encoder"]["text"], "width": 32, "depth": 2}},
        trainer={"max_epochs": 9},
    )
    assert changed_fixed_keys(SAVED, other) == [
        "encoder.text.depth is 2, the checkpoint has not set",
        "encoder.text.width is 32, the checkpoint has 16",
        "seed is 1, the checkpoint has 0",
        "trainer.accumulate_grad_batches is not set, the checkpoint has 1",
    ]


@pytest.mark.parametrize("free", ["name", "run_dir", "tracking", "trainer"])
def test_what_no_weight_depends_on_may_differ(free: str) -> None:
    other = {"trainer": {"max_epochs": 9, "accumulate_grad_batches": 1}}.get(free, {"x": 1})
    assert changed_fixed_keys(SAVED, changed(**{free: other})) == []


def test_a_key_is_fixed_with_all_below_it_and_no_namesake() -> None:
    assert "data" in FIXED_KEYS
    assert changed_fixed_keys({"database": 1}, {"database": 2}) == []
    assert len(changed_fixed_keys({"data": {"a": {"b": 1}}}, {"data": {"a": {"b": 2}}})) == 1


def test_a_conflict_is_refused_with_exit_code_2(folder: RunFolder) -> None:
    target = "pollinate.balancers.Uncertainty"
    with pytest.raises(UsageError) as caught:
        resumed(folder, "balancer", balancer={"_target_": target})
    assert caught.value.exit_code == 2
    assert f"balancer._target_ is '{target}', the checkpoint has" in str(caught.value)


def test_flat_keeps_empty_mappings_and_lists() -> None:
    assert dict(dotted_items({"a": {"b": {}, "c": [1]}, "d": None})) == {
        "a.b": {},
        "a.c": [1],
        "d": None,
    }


def test_what_is_no_single_key_is_refused() -> None:
    with pytest.raises(UsageError, match="experiment isn't one; leave it out"):
        merge_given_keys(
            {"seed": 0}, {"seed": 0, "allow_targets": [], "resume": "last"}, ["experiment"]
        )
