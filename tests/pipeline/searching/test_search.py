"""``python -m pipeline.search`` from the command line to the model, with real runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import pollinate as po
from lightning_modules.checkpoints import checkpoint_fingerprint, read_spec, write_checkpoint
from pipeline.configuration.composition import compose_with_requirements
from pipeline.presets.apply import ChosenConfig
from pipeline.search import main
from pipeline.searching.budget import divided
from pipeline.searching.outcome import Candidate, keep_as_model
from pipeline.searching.plan import load_plan
from pipeline.serving.model_folder import DATA_FOLDER
from pipeline.serving.pyfunc import _load_pyfunc
from pipeline.tracking.journals import read_records
from pipeline.tracking.sender import OPERATIONS
from pollinate.errors import PollinateError
from tests.pipeline.studies.text_shop import SMALL, write_shop
from tests.pipeline.studies.warm_server import warm

pytestmark = pytest.mark.slow

WORDS = (
    *SMALL,
    "trainer.max_epochs=3",
    "time_limit=20m",
    "jobs=2",
    "trials=2",
    "rungs=2",
    "distil=true",
    "space.keys={trunk: [shared], trainer.max_epochs: [3, 4]}",
    "run_dir=search",
)


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with warm(tmp_path_factory.mktemp("server") / "socket") as found:
        yield f"launcher={found}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, launcher: str) -> Path:
    """A finished search of two tasks."""
    home = tmp_path_factory.mktemp("home")
    write_shop(home)
    before = Path.cwd()
    os.chdir(home)
    try:
        assert main([*WORDS, launcher]) == 0
    finally:
        os.chdir(before)
    return home / "search"


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def test_it_trains_the_recipe_each_task_and_what_is_drawn(folder: Path) -> None:
    plan = load_plan(folder)
    assert plan is not None
    names = [*plan.trials]
    assert names[:4] == ["joint", "linear", "alone-mood", "alone-speed"]
    assert names[4:6] == ["drawn-001", "drawn-002"] and names[6].startswith("student")
    drawn = {name: plan.trials[name] for name in names[4:6]}
    assert all(one.rungs == divided(one.epochs, 2) for one in drawn.values())
    paused = {name for name, until in plan.stages[2].until.items() if until is not None}
    assert paused and [len(stage.until) for stage in plan.stages] == [1, 3, 2, 1, 1]
    paused -= plan.stages[3].until.keys()  # the best of them went on
    for name in names:
        summary = json.loads((folder / "trials" / name / "summary.json").read_text())
        assert summary["status"] == ("interrupted" if name in paused else "finished")


def test_the_model_is_kept_in_the_search_s_own_run_once(folder: Path) -> None:
    kept = [record for record, _ in read_records(folder / OPERATIONS) if record["op"] == "model"]
    assert [one["folder"] for one in kept] == ["model/model"]
    served = _load_pyfunc(str(folder / "model/model" / DATA_FOLDER))
    assert served.predict(pd.DataFrame({"text": ["nice good 1"]}))["mood"].isin(["a", "b"]).all()
    model = json.loads((folder / "results.json").read_text())["checksum"]
    assert model == checkpoint_fingerprint([folder / "model/checkpoints/best.ckpt"])


def test_no_task_is_worse_on_validation_than_with_any_model(folder: Path) -> None:
    found = results(folder)
    ensemble = next(one for one in found["candidates"] if one["name"] == "ensemble")
    for task in ("mood", "speed"):
        best = max(own["valid"][task] for own in found["scores"].values() if task in own["valid"])
        assert ensemble["valid"][task] >= best
        assert found["selections"][task]["score"] == pytest.approx(ensemble["valid"][task])
        assert sum(found["selections"][task]["weights"].values()) == pytest.approx(1)
        assert {"alone", "joint", "linear"} == found["gains"][task].keys()


def test_the_model_scores_what_was_said(folder: Path) -> None:
    found = results(folder)
    chosen = next(one for one in found["candidates"] if one["name"] == found["chosen"])
    scores = po.evaluate(folder / "model", "valid", quiet=True)
    for task in ("mood", "speed"):
        assert scores[task]["accuracy"] == pytest.approx(chosen["valid"][task])


def test_it_is_there_in_python(folder: Path) -> None:
    found = po.Search(folder)
    assert found.leaderboard["model"].tolist()[-1] in ("ensemble", "student")
    assert found.leaderboard["valid/mood"].between(0, 1).sum() >= 4
    assert found.summary.startswith("the best model is")
    rows = pd.DataFrame({"text": ["nice good 1", "poor bad 2"]})
    assert found.model().predict(rows, tasks=["mood"])["mood"].isin(["a", "b"]).all()
    with pytest.raises(PollinateError, match="holds no search that has ended"):
        po.Search(folder / "trials")


def test_the_page_and_the_tables_are_there(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert "Who answers which task" in page and "What a score costs" in page
    assert "<script" not in page and "trunk=shared" in page
    assert (folder / "search.db").exists()


def test_a_complete_search_is_only_reported_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch, launcher: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder.parent)
    before = results(folder)
    assert main([*WORDS, launcher]) == 0
    assert "started" not in capsys.readouterr().out
    after = results(folder)
    for part in ("scores", "selections", "chosen"):
        assert after[part] == before[part]
    test_the_model_is_kept_in_the_search_s_own_run_once(folder)
    assert main([*WORDS, launcher, "dim=16"]) == 2
    assert "belongs to another search: dim is 16, there 8" in capsys.readouterr().err


def test_too_short_a_time_says_what_is_needed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder.parent)
    assert main([*SMALL, "time_limit=1s", "run_dir=short"]) == 2
    assert "time_limit must be enough for the run of all tasks, about" in capsys.readouterr().err
    assert not (folder.parent / "short" / "search.json").exists()
    assert main([*SMALL, "run_dir=short", "dry_run=true"]) == 0  # it can be given more time
    assert main([*SMALL, "run_dir=dry", "dry_run=true"]) == 0
    assert not (folder.parent / "dry").exists()


def test_a_killed_search_goes_on_with_what_it_has(
    folder: Path, tmp_path: Path, launcher: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    write_shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    command = [*launcher.removeprefix("launcher=").split(), "-m", "pipeline.search"]
    run = subprocess.Popen([*command, *WORDS, launcher], start_new_session=True)
    while not (tmp_path / "search/trials/alone-mood/summary.json").exists():
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    summaries = tmp_path.glob("search/trials/*/summary.json")
    done = [f.parent for f in summaries if json.loads(f.read_text())["status"] == "finished"]
    assert done

    assert main(["resume=search", launcher]) == 0

    for trial in done:
        assert len(json.loads(trial.with_name(f"{trial.name}.json").read_text())["sessions"]) == 1
    assert results(tmp_path / "search")["scores"] == results(folder)["scores"]


def test_runs_that_fail_are_listed_and_the_rest_answers(
    tmp_path: Path, launcher: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write_shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    fails = "space.keys={encoder/text: [transformer], encoder.text.heads: [3]}"  # 8 isn't 3 heads
    words = [word for word in WORDS if "space" not in word and "distil" not in word]
    assert main([*words, launcher, fails, "distil=false", "trials=1"]) == 0
    printed = capsys.readouterr().out
    assert "failed: drawn-001" in printed and "1 run failed, which the page lists" in printed
    assert "<h3>Failed</h3>" in (tmp_path / "search/report.html").read_text()


def test_where_all_fail_the_first_error_is_told(
    tmp_path: Path, launcher: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write_shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    given = [*WORDS, launcher, "optimizer.lr=1e30", "tasks=[mood]"]
    assert main(given) == 1
    assert "nothing could be trained, the first run failed so: " in capsys.readouterr().err


def test_models_of_two_recipes_answer_together(
    tmp_path: Path, launcher: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """One of them reads other tokens, shorter texts; the linear model the terms of any."""
    write_shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    other = ["data.text.vocab_size=270", "data.text.max_length=4", "dim=4", "data.text.wide=true"]

    def chosen(command: str, config: Any, overrides: Any, dirs: Any) -> ChosenConfig:
        own = other if config["preset"] == "fast" else []
        found = compose_with_requirements(command, [*own, *overrides], dirs).config
        return ChosenConfig({**found, "preset": config["preset"]}, [], own)

    monkeypatch.setattr("pipeline.presets.apply.apply_preset", chosen)
    words = [word for word in WORDS if word not in ("trials=2", "distil=true")]
    given = [*words, launcher, "preset=good", "tasks=[mood]", "trials=1"]
    assert main([*given, "distil=true", "space.keys.dim=[4]"]) == 0
    assert "models are drawn round what preset fast chooses, too" in capsys.readouterr().out

    plan = load_plan(tmp_path / "search")
    assert plan is not None and [*plan.trials][:3] == ["joint", "linear", "joint-fast"]
    short = read_spec(tmp_path / "search/trials/joint-fast/checkpoints/best.ckpt")
    assert short["config"]["data"]["text"]["max_length"] == 4
    assert {"tokenizer.json", "tokenizer-fast.json"} <= {f.name for f in plan_files(tmp_path)}
    found = results(tmp_path / "search")
    assert {"joint", "joint-fast", "linear"} <= found["scores"].keys()
    best = next(one for one in found["candidates"] if one["name"] == "ensemble")
    scores = po.evaluate(best["folder"], "valid", quiet=True)
    assert scores["mood"]["accuracy"] == pytest.approx(best["valid"]["mood"])
    assert "preset=fast" in (tmp_path / "search/report.html").read_text()
    assert main(["resume=search", launcher]) == 0  # each with its own recipe again


def plan_files(home: Path) -> list[Path]:
    return list((home / "search").iterdir())


def test_what_was_measured_of_another_model_goes_with_it(tmp_path: Path) -> None:
    for name, value in (("one", 1.0), ("two", 2.0)):
        content = {"state_dict": {"w": torch.tensor(value)}}
        write_checkpoint(content, tmp_path / name / "checkpoints" / "best.ckpt")

    def keep(name: str) -> Path:
        return keep_as_model(tmp_path, Candidate(name, tmp_path / name, {}, {}, 1, 1.0))

    measured = keep("one") / "evaluation-test.json"
    measured.write_text("{}")
    keep("one")
    assert measured.exists()
    keep("two")
    assert not measured.exists()
