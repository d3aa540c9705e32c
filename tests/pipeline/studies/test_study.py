"""``python -m pipeline.study`` from the command line to the report."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from pipeline.command import parse_arguments
from pipeline.configuration.composition import compose
from pipeline.studies.plan import load_plan
from pipeline.study import main
from tests.pipeline.studies.plans import LAUNCHER, ROOT
from tests.pipeline.studies.text_shop import SMALL, plan_only, stand_in, write_shop


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
    given = [*SMALL, "run_dir=all", "dim=2", "seeds=[0]", f"launcher={LAUNCHER}", "jobs=3"]
    assert main(given) == 1
    assert "all 3 trials have failed, the first one so: memory ran out" in capsys.readouterr().err


def test_dry_run_prints_commands_that_compose(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*SMALL, "dry_run=true", "study.pairs=all", "study.pair_weights=[0.5]"]
    assert main([*arguments, "study.transfers=all", "study.label_fractions=[0.1]"]) == 0
    lines = [x for x in capsys.readouterr().out.splitlines() if x.startswith("python -m")]
    assert len(lines) == 3 * (3 + 2 + 2 + 5)
    for line in lines[:12]:
        words = parse_arguments(shlex.split(line)[3:])
        config = compose("fit", words.overrides, words.config_dirs)
        assert config["sampler"]["batch_size"] in (8, 16)
    assert not list(shop.glob("runs/*"))


def test_a_preset_chooses_once_for_all_trials(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = [word for word in SMALL if word.partition("=")[0] in ("data", "tracking", "baseline")]
    variant = "study.variants.recurrent=encoder/text=gru"
    assert main([*own, "preset=fast", "dry_run=true", "seeds=[0]", variant]) == 0
    out = capsys.readouterr().out
    assert "preset fast chose" in out
    chosen = ["trainer.max_epochs=4", "data.text.wide=true", "optimizer.lr=0.001", "preset=none"]
    arms = [shlex.split(line)[3:] for line in out.splitlines() if line.startswith("python -m")]
    assert len(arms) == 4
    for words in arms:
        assert {*chosen} <= {*words}
        assert ("encoder.text.dropout=0.8" in words) == ("encoder/text=gru" not in words)
        assert compose("fit", words)["preset"] == "none"


def test_a_resumed_study_keeps_what_the_preset_chose(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan_only(shop, "one")
    made = load_plan(shop / "one")
    assert made is not None
    made.chosen = ["dim=24", "encoder.text.pairs=32"]
    made.save(shop / "one")
    assert main(["resume=one", f"launcher={LAUNCHER}", "dry_run=true"]) == 0
    found = capsys.readouterr().out
    assert "encoder.text.pairs=64" in found and "encoder.text.pairs=32" not in found
    made.chosen = ["encoder.text.dropout=0.25"]
    made.save(shop / "one")
    assert main(["resume=one", f"launcher={LAUNCHER}", "dry_run=true"]) == 0
    assert "encoder.text.dropout=0.25" in capsys.readouterr().out
    made.chosen = ["launcher=rm"]
    made.save(shop / "one")
    assert main(["resume=one", f"launcher={LAUNCHER}", "dry_run=true"]) == 2
    assert "sets launcher=rm, which only the command line" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(
    shop: Path, launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_PAUSE", "0.2")
    command = [*shlex.split(launcher), "-m", "pipeline.study", *stand_in("one")]
    study = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert study.stdout is not None
    for line in study.stdout:
        if line.startswith("started:"):
            break
    while not list(shop.glob("one/trials/*/*/state.json")):
        time.sleep(0.01)
    study.send_signal(signal.SIGINT)
    rest, _ = study.communicate()
    assert study.returncode == 130
    assert "stopped by SIGINT; everything is saved. Go on with" in rest
    go_on = shlex.join(["python", "-m", "pipeline.study", "resume=one", f"launcher={LAUNCHER}"])
    assert go_on in rest
    monkeypatch.setenv("STAND_IN_PAUSE", "0")
    assert main(["resume=one", f"launcher={LAUNCHER}", "jobs=3"]) == 0


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
    page = (ROOT / "docs" / "how_to" / "study.md").read_text()
    for file in (ROOT / "configs" / "study").glob("*.yaml"):
        assert f"`{file.stem}`" in page


def test_shipped_engines_and_their_options_are_explained() -> None:
    page = (ROOT / "docs" / "how_to" / "study.md").read_text()
    for file in (ROOT / "configs" / "engine").glob("*.yaml"):
        assert f"| `{file.stem}`" in page
        for key in yaml.safe_load(file.read_text()):
            assert key[0] == "_" or f"engine.{key}" in page


RECIPES = {
    "torchrun --standalone --nproc-per-node=2": ["trainer=ddp", "trainer.devices=2"],
    "srun --exclusive --ntasks=1 --gpus=1 python": ["jobs=4"],
}


@pytest.mark.parametrize("launcher", RECIPES)
def test_recipes_of_the_documents_start_each_trial(
    launcher: str, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launcher in (ROOT / "docs" / "how_to" / "study.md").read_text()
    given = [*SMALL, *RECIPES[launcher], f"launcher={launcher}", "dry_run=true", "seeds=[0]"]
    assert main(given) == 0
    lines = [x for x in capsys.readouterr().out.splitlines() if x.startswith(f"{launcher} -m")]
    assert len(lines) == 3
    for line in lines:
        found = shlex.split(line)
        words = found[found.index("pipeline.fit") + 1 :]
        assert compose("fit", words)["trainer"].get("devices") in (2, "auto", 1)
