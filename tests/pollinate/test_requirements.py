from __future__ import annotations

import os
from pathlib import Path

import pytest

from pollinate.errors import PollinateError, UsageError
from pollinate.requirements import check_is_new, check_run_folder, check_writable, require


def test_require_names_the_pip_command() -> None:
    require("yaml", "quickstart")
    with pytest.raises(UsageError) as caught:
        require("not_installed_anywhere", "quickstart")
    assert 'pip install "pollinate[quickstart]"' in str(caught.value)
    assert 'pip install -e ".[quickstart]"' in str(caught.value)


def test_a_used_folder_is_refused(tmp_path: Path) -> None:
    check_is_new(tmp_path)
    check_is_new(tmp_path / "new")
    (tmp_path / "config.yaml").touch()
    with pytest.raises(UsageError, match="resume=last") as caught:
        check_is_new(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["LOCAL_RANK", "NODE_RANK", "RANK", "SLURM_PROCID"])
def test_further_processes_find_the_folder_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "config.yaml").touch()
    monkeypatch.setenv(name, "0")
    with pytest.raises(UsageError):
        check_is_new(tmp_path)
    monkeypatch.setenv(name, "1")
    check_is_new(tmp_path)


def test_writable_creates_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "a/b/c")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PollinateError, match="file is not a folder") as caught:
        check_writable(tmp_path / "file/run")
    assert caught.value.exit_code == 1


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(PollinateError, match="not writable") as caught:
        check_writable(tmp_path / "run")
    assert str(tmp_path / "run") in str(caught.value)


@pytest.mark.parametrize("resume", ["last", "a.ckpt"])
def test_resume_may_use_the_folder(tmp_path: Path, resume: str) -> None:
    (tmp_path / "config.yaml").touch()
    check_run_folder({"run_dir": str(tmp_path), "resume": resume})
    with pytest.raises(UsageError):
        check_run_folder({"run_dir": str(tmp_path), "resume": None})


def test_the_default_folder_holds_other_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs/earlier").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    check_run_folder({"run_dir": None, "resume": None})
