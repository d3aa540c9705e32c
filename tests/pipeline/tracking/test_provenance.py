from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.tracking.provenance import git_diff, git_tags, provenance_tags


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-b", "trunk")
    (tmp_path / "file").write_text("one\n")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "first")
    return tmp_path


def test_git_tags_of_a_clean_repository(repository: Path) -> None:
    assert git_tags(repository) == {
        "mlflow.source.git.commit": git(repository, "rev-parse", "HEAD"),
        "mlflow.source.git.branch": "trunk",
        "mlflow.source.git.dirty": "False",
    }
    assert git_diff(repository) is None


def test_changes_are_kept(repository: Path) -> None:
    (repository / "file").write_text("two\n")
    assert git_tags(repository)["mlflow.source.git.dirty"] == "True"
    assert "+two" in (git_diff(repository) or "")
    (repository / "file").write_text("x" * 1_100_000)
    assert git_diff(repository) is None


def test_outside_a_repository(tmp_path: Path) -> None:
    assert git_tags(tmp_path) == {}
    assert git_diff(tmp_path) is None


def test_command_hides_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "tracking.uri=http://u:pw@h", "hub.token=abc"])
    tags = provenance_tags(tmp_path)
    assert tags["pollinate.command"] == "python 'tracking.uri=http://***@h' 'hub.token=***'"
    assert tags["pollinate.run_dir"] == str(tmp_path)
    assert tags["version.python"].startswith("3.")
    assert set(tags) >= {"version.torch", "version.lightning", "pollinate.host", "mlflow.user"}


def test_a_repository_s_own_settings_start_nothing(tmp_path: Path) -> None:
    script = tmp_path / "theirs.sh"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\ncat\n")
    script.chmod(0o755)
    folder = tmp_path / "repository"

    def git(*words: str) -> None:
        own = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(folder), *own, *words], check=True, capture_output=True)

    folder.mkdir()
    git("init")
    (folder / "a.txt").write_text("one\n")
    git("add", "a.txt")
    git("commit", "-m", "one")
    (folder / ".gitattributes").write_text("*.txt filter=theirs diff=theirs\n")
    for name in ("filter.theirs.clean", "filter.theirs.process", "diff.theirs.textconv"):
        git("config", name, str(script))
    for name in ("core.fsmonitor", "diff.external", "diff.theirs.command"):
        git("config", name, str(script))
    (folder / "a.txt").write_text("two\n")
    assert git_tags(folder)["mlflow.source.git.dirty"] == "True"
    assert "two" in str(git_diff(folder))
    assert not (tmp_path / "ran").exists()
