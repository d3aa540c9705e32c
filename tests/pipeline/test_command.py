"""Dummy command: what these tests run is below, as a command's file would have it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from pipeline.command import CommandArguments, CommandResult, parse_arguments, run_command
from pollinate.errors import PollinateError, UsageError
from tests.pipeline.conftest import ALLOW, CONF

FIT = [f"--config-dir={CONF}", ALLOW]
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fail(error: BaseException) -> Any:
    def run(config: dict[str, Any], arguments: CommandArguments) -> CommandResult:
        raise error

    return run


def test_run_gets_configuration_and_given_keys() -> None:
    seen: list[Any] = []

    def run(config: dict[str, Any], arguments: CommandArguments) -> CommandResult:
        seen.extend((config, arguments))
        return CommandResult()

    code = run_command("fit", run, [*FIT, "seed=4"])
    config, arguments = seen
    assert (code, config["seed"], type(config["data"])) == (0, 4, dict)
    assert arguments.given[-1] == "seed"


def test_run_may_return_an_exit_code() -> None:
    assert run_command("evaluate", lambda *_: CommandResult(exit_code=3), ["checkpoint=a"]) == 3


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (PollinateError("loss is NaN"), 1, "error: loss is NaN\n"),
        (UsageError("seed must be"), 2, "error: seed must be\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
)
def test_errors(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, message: str
) -> None:
    assert run_command("evaluate", fail(error), ["checkpoint=a"]) == code
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", message)


@pytest.mark.parametrize("error", [PollinateError("bad"), KeyError("a")])
def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], error: Exception) -> None:
    assert run_command("evaluate", fail(error), ["checkpoint=a", "--debug"]) == 1
    shown = capsys.readouterr().err
    assert "Traceback (most recent call last)" in shown


def test_system_exit_passes() -> None:
    with pytest.raises(SystemExit):
        run_command("evaluate", fail(SystemExit(143)), ["checkpoint=a"])


def test_default_arguments_are_the_process_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pollinate-evaluate", "checkpoint=b"])
    code = run_command("evaluate", lambda c, _: CommandResult(exit_code=len(c["checkpoint"])))
    assert code == 1


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--hlep"], ["unknown flag --hlep; did you mean --help?", "flags: --help"]),
        (["--print_config"], ["did you mean --print-config?"]),
        (["--config-dri", "x"], ["did you mean --config-dir?"]),
        (["--seed=3"], ["unknown flag --seed", "keys have no dashes: seed=3"]),
        (["-x"], ["unknown flag -x"]),
        (["--config-dir"], ["--config-dir must be followed by a folder"]),
        (["--config-dir", "/nope"], ["--config-dir must be a folder", "/nope"]),
        (["sed=1", "checkpoint=a"], ["unknown key sed=1"]),
        ([], ["checkpoint is missing; set checkpoint=VALUE"]),
    ],
)
def test_usage_errors(
    capsys: pytest.CaptureFixture[str], argv: list[str], parts: list[str]
) -> None:
    assert run_command("evaluate", fail(AssertionError("ran")), argv) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert all(part in shown for part in parts), shown


def test_flags_and_overrides_in_any_order() -> None:
    argv = ["a=1", "--config-dir", "x", "--debug", "b=2", "--config-dir=~/y", "--print-config"]
    arguments = parse_arguments(argv)
    assert arguments.overrides == ["a=1", "b=2"]
    assert arguments.config_dirs == [Path("x"), Path.home() / "y"]
    assert (arguments.debug, arguments.print_config, arguments.help) == (True, True, False)


def test_print_config_is_yaml_and_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*FIT, "--print-config", "seed=9", "run_dir=/dev/null/x"]
    assert run_command("fit", fail(AssertionError("ran")), argv) == 0
    printed = OmegaConf.create(capsys.readouterr().out)
    assert printed.seed == 9
    assert printed.data.tasks.digit.dataset == "mnist"


def test_a_missing_extra_stops_the_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/quickstart.yaml").write_text(
        "_target_: tests.pipeline.standins.Rows\n_requires_: {not_installed: quickstart}\n"
    )
    argv = ["--config-dir", str(tmp_path), *FIT]
    assert run_command("fit", fail(AssertionError("ran")), argv) == 2
    assert 'pip install "pollinate[quickstart]"' in capsys.readouterr().err


def test_nothing_is_overwritten(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/summary.json").touch()
    assert run_command("fit", fail(AssertionError("ran")), [*FIT, "run_dir=old"]) == 2
    assert "resume=last" in capsys.readouterr().err
    assert run_command("fit", lambda *_: CommandResult(), [*FIT, "run_dir=old", "resume=last"]) == 0


CHILD = """
import sys
from pipeline.command import CommandResult, run_command
code = run_command({name!r}, lambda *_: CommandResult(), {argv!r})
heavy = {{"torch", "lightning", "mlflow", "pandas", "numpy", "torchvision"}} & set(sys.modules)
assert not heavy, heavy
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("name", "argv", "code"),
    [
        ("fit", ["--help"], 0),
        ("predict", ["--help"], 0),
        ("fit", [*FIT, "--print-config"], 0),
        ("fit", [*FIT, "trunk.dept=1"], 2),
        ("fit", [*FIT, "optimizer=torch", "optimizer.name=RMSpop"], 2),
        ("fit", [*FIT, "trunk._target_=torch.load"], 2),
        ("fit", [*FIT, "trainer.max_epoch=1"], 2),
        ("fit", ["--nope"], 2),
    ],
)
def test_torch_is_not_imported(name: str, argv: list[str], code: int) -> None:
    child = subprocess.run(
        [sys.executable, "-c", CHILD.format(name=name, argv=argv)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == code, child.stderr
    assert "Traceback" not in child.stderr
