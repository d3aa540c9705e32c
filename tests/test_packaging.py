"""A wheel has everything, and works from any folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.pipeline.studies.plans import LAUNCHER
from tests.pipeline.studies.text_shop import SMALL, write_shop

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository's files, which building may fill with its own."""
    source = tmp_path_factory.mktemp("repository") / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in tracked.stdout.rstrip("\0").split("\0"):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    return source


def built(source: Path, hook: str) -> Path:
    """Build what pip installs by a hook of the build backend."""
    folder = source.parent / hook
    folder.mkdir()
    code = f"from setuptools import build_meta; print(build_meta.{hook}({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    return built(source, "build_wheel")


@pytest.fixture(scope="module", params=["build_wheel", "build_editable"])
def program(
    source: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """``pollinate``, installed in an environment of its own; other packages are this one's."""
    wheel = (
        request.getfixturevalue("wheel")
        if request.param == "build_wheel"
        else built(source, request.param)
    )
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    # only this file's paths are added: an editable installation there isn't seen
    (site / "others.pth").write_text("\n".join(path for path in sys.path if "-packages" in path))
    command = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install"]
    command += ["--no-deps", "--no-index", "--ignore-installed", "--quiet", str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "bin" / "pollinate"


TRAP = 'raise SystemExit("this file must not be imported")\n'


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A folder in which a user may stand, of unfortunate names."""
    for name in ("pollinate", "pipeline", "configs", "datamodules", "lightning_modules"):
        (tmp_path / name).mkdir()
    for name in ("pipeline", "random", "torch", "mlflow", "signal"):
        (tmp_path / f"{name}.py").write_text(TRAP)
    write_shop(tmp_path)
    return tmp_path


def run(folder: Path, *command: str | Path) -> str:
    """Run a command as a user would, without what the tests' own environment sets."""
    gone = ("PYTHONPATH", "PYTHONSAFEPATH")
    environment = {name: value for name, value in os.environ.items() if name not in gone}
    environment |= {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_module_and_config_is_in_the_wheel(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    for package in ("pollinate", "pipeline", "datamodules", "lightning_modules", "configs"):
        for path in (ROOT / package).rglob("*"):
            if path.suffix in (".py", ".yaml", ".css"):
                assert path.relative_to(ROOT).as_posix() in packed


def test_the_tests_are_not_in_the_wheel(wheel: Path) -> None:
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("tests/")]


@pytest.mark.parametrize("folder", ["/", "trap"])
def test_an_installed_program_works_wherever_the_user_stands(
    program: Path, trap: Path, folder: str
) -> None:
    where = trap if folder == "trap" else Path(folder)
    assert "quickstart" in run(where, program, "fit", "--help")
    assert "python" not in run(where, program, "--help")
    assert "seed: 3" in run(where, program, "fit", "--print-config", "seed=3")


CHILD = """
import os, subprocess, sys
command = [sys.executable, "-m", "pipeline.fit", "--help"]
subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
os.execv(sys.executable, [sys.executable, {stand_in!r}, *sys.argv[1:]])
"""


@pytest.mark.slow
def test_the_runs_of_a_study_begin_wherever_the_user_stands(program: Path, trap: Path) -> None:
    """The one here first calls the real command, then leaves what a run leaves."""
    child = trap / "child.py"
    child.write_text(CHILD.format(stand_in=LAUNCHER.split()[-1]))
    launcher = f"launcher={program.parent / 'python'} {child}"
    one = ["seeds=[0]", "study.single_task=false", "run_dir=one", launcher]
    told = run(trap, program, "study", *SMALL, *one)
    assert (trap / "one/trials/multi_task/seed-0/summary.json").exists(), told


@pytest.mark.slow
@pytest.mark.parametrize("program", ["build_wheel"], indirect=True)
def test_other_processes_of_a_run_work_wherever_the_user_stands(program: Path, trap: Path) -> None:
    """Lightning's second process, and the one that sends to MLflow."""
    tracked = [option for option in SMALL if option != "tracking=none"]
    told = run(
        trap, program, "fit", *tracked, "trainer.max_steps=1", "run_dir=two",
        "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu",
    )  # fmt: skip
    assert "resume     pollinate fit resume=two trainer.max_epochs=N" in told
    summary = json.loads((trap / "two/summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["run_id"] is not None  # the sender has reached the database
