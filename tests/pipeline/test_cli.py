"""``pollinate COMMAND``: the list of commands, wrong names, commands in messages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.configuration.help import commands
from pollinate.program import UserPackages, command_words, searches_current_folder, shell_command
from pollinate.version import VERSION

ROOT = Path(__file__).parents[2]


def test_help_lists_every_command_on_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, summary in commands().items():
        assert [line for line in lines if line.split(maxsplit=1) == [name, summary]], name
    assert "cli" not in commands()


def test_nothing_shows_the_help_as_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Commands:" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"pollinate {VERSION}\n"


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        (
            "fti",
            ["unknown command fti; did you mean fit? commands: calibrate, evaluate, explain"],
        ),
        ("rank-sources", ["did you mean rank_sources?"]),
        ("--vresion", ["unknown flag --vresion; did you mean --version?"]),
        ("--debug", ["--debug comes after the command"]),
        ("seed=1", ["seed=1 comes after the command: pollinate fit seed=1"]),
    ],
)
def test_a_wrong_word(capsys: pytest.CaptureFixture[str], word: str, parts: list[str]) -> None:
    assert main([word]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ") and shown.count("\n") == 1
    assert all(part in shown for part in parts), shown


def test_a_command_is_called_as_the_user_called_it(capsys: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ)
    assert main(["fit", "--help"]) == 0
    assert capsys.readouterr().out.startswith("pollinate fit [group=option]")
    assert dict(os.environ) == before
    assert command_words("fit") == ["python", "-m", "pipeline.fit"]


def test_the_exit_code_is_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "sed=1"]) == 2
    assert "did you mean seed?" in capsys.readouterr().err


def test_commands_in_messages_are_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shell_command("fit", "resume=a b") == "python -m pipeline.fit 'resume=a b'"
    monkeypatch.setenv("POLLINATE_PROGRAM", "pollinate")
    assert shell_command("fit", "resume=a", "seed=1") == "pollinate fit resume=a seed=1"


@pytest.mark.parametrize("words", [["--help"], ["fit", "--help"]])
def test_help_imports_nothing_that_takes_time(words: list[str]) -> None:
    code = (
        f"import sys; from pipeline.cli import main; main({words}); "
        "slow = {'torch', 'lightning', 'omegaconf', 'mlflow', 'rich', 'tempfile', 'yaml'} | "
        "{'logging', 'json', 'difflib'}; "
        "assert not slow & set(sys.modules), slow & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_where_modules_are_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for path, expected in (["", "/usr"], True), ([str(tmp_path)], True), (["/usr"], False):
        monkeypatch.setattr(sys, "path", path)
        assert searches_current_folder() is expected


def test_own_packages_are_found_where_the_user_stands_and_nothing_else(tmp_path: Path) -> None:
    for name in ("own", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    finder = UserPackages(["own.parts", "random"], tmp_path)
    spec = finder.find_spec("own", None)
    assert spec is not None and spec.origin == str(tmp_path / "own" / "__init__.py")
    assert finder.find_spec("other", None) is None
    assert finder.find_spec("own.parts", [str(tmp_path / "own")]) is None
