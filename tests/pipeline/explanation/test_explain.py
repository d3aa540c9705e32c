"""The command and the API: a page, JSON, checks, training rows, another model beside it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pollinate as po
from datamodules.modalities.text_pieces import text_pieces
from lightning_modules.explanation.explainer import Explanation
from pipeline.explain import call, main
from pipeline.explanation.findings import OtherExplanation
from pipeline.explanation.output import record_in_run
from pipeline.tracking.journals import OperationJournal, read_records
from pipeline.tracking.sender import OPERATIONS
from pollinate.console import new_console
from pollinate.errors import PollinateError, UsageError
from tests.extras import needs
from tests.lean_fit import lean_runs
from tests.small_shop import BAD, GOOD, SMALL, reviews, shop

pytestmark = needs("captum")
TRUNK = ["trunk=mmoe", "trunk.experts=2", "data.text.wide=true"]
EVIL = "<script>alert(1)</script> good good tea"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two tasks, ``joint``, and one of the first alone; not to be changed."""
    folder = tmp_path_factory.mktemp("explained")
    with lean_runs():
        alone = [*TRUNK, "tasks=[mood]", "data.text.vocab_size=290"]
        for name, more in (("joint", TRUNK), ("alone", alone)):
            own = [*SMALL, *more, f"run_dir={folder / name}"]
            po.fit(shop(folder), own, quiet=True)
    return folder


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "new.csv"
    frame = reviews(8, seed=1)[["review"]]
    frame.loc[0, "review"] = EVIL
    frame.loc[7, "review"] = " "
    frame.to_csv(path, index=False)
    return path


def explain(runs: Path, rows: Path, output: Path, *more: str) -> dict[str, Any]:
    """Explain in a folder of the test's own; return the JSON."""
    words = [f"checkpoint={runs / 'joint'}", f"input={rows}", f"output={output}", *more]
    found = call(words, quiet=True)
    assert found.page.parent == output
    loaded: dict[str, Any] = json.loads(found.file.read_text(encoding="utf-8"))
    return loaded


def test_words_that_the_label_follows_from_count_most(
    runs: Path, rows: Path, tmp_path: Path
) -> None:
    found = explain(runs, rows, tmp_path / "why", "tasks=[mood]", "answers={mood: glad}")
    assert found["rows"] == 8
    sides = {**dict.fromkeys(GOOD, 1), **dict.fromkeys(BAD, -1)}
    strongest = []
    for answer in found["tasks"]["mood"]["answers"][1:]:
        assert answer["answer"] == "glad"
        words = answer["parts"]["text"]
        change = answer["score"] - answer["score_of_nothing"]
        assert sum(word["adds"] for word in words) == pytest.approx(change, rel=0.05, abs=0.01)
        top = max(words, key=lambda word: abs(word["adds"]))
        strongest.append(sides.get(top["text"], 0) == np.sign(top["adds"]))
    assert np.mean(strongest) > 0.8
    (check,) = found["tasks"]["mood"]["checks"]
    assert check["depends_on_weights"] and check["beats_random"]
    assert found["doubts"] == []


def test_the_page_is_whole_and_nothing_in_it_runs(runs: Path, rows: Path, tmp_path: Path) -> None:
    found = explain(runs, rows, tmp_path / "why", "checks=2")
    page = (tmp_path / "why/explain.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.findall(r'(?:src|href)="(?!data:image/png;base64,|#)', page)
    for name, task in found["tasks"].items():
        assert f">{name}</h2>" in page
        assert task["takes"]["gate"].keys() == {"expert_0", "expert_1"}
        assert sum(task["takes"]["gate"].values()) == pytest.approx(1, abs=1e-4)
    assert "like it in training" in page
    first = found["tasks"]["mood"]["answers"][1]["examples"][0]
    assert first["dataset"] == "reviews"
    assert re.search(r"reviews\.csv, line \d+|row \d+", first["place"])
    assert 0.9 < first["similarity"] <= 1.001


def test_a_row_without_text_is_left_out(runs: Path, rows: Path, tmp_path: Path) -> None:
    found = explain(runs, rows, tmp_path / "why", "checks=0", "examples=0", "tasks=[stars]")
    assert [one["row"] for one in found["tasks"]["stars"]["answers"]] == [1, 2, 3, 4, 5, 6, 7]


def test_another_model_is_compared(runs: Path, rows: Path, tmp_path: Path) -> None:
    other = f"other={runs / 'alone'}"
    found = explain(runs, rows, tmp_path / "why", other, "checks=0", "examples=0")
    alike = found["tasks"]["mood"]["alike"]["text"]
    assert alike["rows"] == 7
    assert 0.3 < alike["rank_correlation"] <= 1
    assert found["tasks"]["stars"]["alike"] == {}
    assert any("has no stars" in note for note in found["notes"])
    page = (tmp_path / "why/explain.html").read_text(encoding="utf-8")
    assert "How alike are both models" in page
    other = found["tasks"]["mood"]["answers"][0]["other"]
    assert {word["text"] for word in other["where_they_part"]} <= {"good", "tea"}
    same = explain(runs, rows, tmp_path / "same", f"other={runs / 'joint'}", "checks=0")
    assert same["tasks"]["stars"]["alike"]["text"]["rank_correlation"] == pytest.approx(1)


def test_nothing_is_overwritten_unasked(runs: Path, rows: Path, tmp_path: Path) -> None:
    (tmp_path / "why").mkdir()
    (tmp_path / "why/explain.json").write_text("mine")
    with pytest.raises(UsageError, match=r"has an explanation .*overwrite=true"):
        explain(runs, rows, tmp_path / "why")
    assert (tmp_path / "why/explain.json").read_text() == "mine"
    explain(runs, rows, tmp_path / "why", "overwrite=true", "checks=0", "rows=1", "examples=0")


def test_it_goes_into_the_run_folder(runs: Path, rows: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "joint", tmp_path / "run")
    words = [f"checkpoint={tmp_path / 'run'}", f"input={rows}", "rows=2", "checks=0", "examples=0"]
    assert call(words, quiet=True).page == tmp_path / "run/explanation/explain.html"
    shutil.copy(tmp_path / "run/checkpoints/best.ckpt", tmp_path / "loose.ckpt")
    with pytest.raises(UsageError, match=r"in no run folder.*output=FOLDER"):
        call([f"checkpoint={tmp_path / 'loose.ckpt'}", f"input={rows}"], quiet=True)


def test_data_that_are_gone_are_said(
    runs: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any) -> None:
        raise PollinateError("reviews.csv is not there")

    monkeypatch.setattr("datamodules.mixed_datamodule.MixedDataModule.setup", gone)
    found = explain(runs, rows, tmp_path / "why", "rows=2", "checks=0")
    assert found["notes"][-1] == "no training rows are shown: reviews.csv is not there"
    assert found["tasks"]["mood"]["answers"][0]["examples"] == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["tasks=[mod]"], "has no task 'mod'; did you mean mood"),
        (["answers={mod: glad}"], "has no task 'mod'; did you mean mood"),
        (["answers={mood: gald}"], "answer 'gald' is none of the task's; did you mean glad"),
        (["answers={stars: glad}", "tasks=[mood]"], "names task stars, which isn't explained"),
        (["other=nowhere"], "checkpoint must be a file, a run folder"),
    ],
)
def test_what_is_wrong_is_named(
    runs: Path, rows: Path, tmp_path: Path, more: list[str], message: str
) -> None:
    with pytest.raises(PollinateError, match=re.escape(message)):
        explain(runs, rows, tmp_path / "why", *more)
    assert not (tmp_path / "why").exists()


def test_a_task_that_cannot_be_explained_names_those_that_can(
    runs: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(po.tasks.Regression, "answer_scores", po.tasks.Task.answer_scores)
    with pytest.raises(UsageError, match=r"stars is of type Regression.*that can: mood\. Types"):
        explain(runs, rows, tmp_path / "why", "tasks=[stars]")
    found = explain(runs, rows, tmp_path / "why", "rows=1", "checks=0", "examples=0")
    assert list(found["tasks"]) == ["mood"]
    assert "answers of stars (Regression) can't be explained" in found["notes"]


def test_without_captum_the_command_says_what_to_install(
    runs: Path, rows: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pollinate.requirements.installed_spec", lambda _: None)
    assert main([f"checkpoint={runs / 'joint'}", f"input={rows}"]) == 2
    assert (
        'captum is not installed; run pip install "pollinate[explain]"' in capsys.readouterr().err
    )


def test_a_frame_is_explained_in_python(runs: Path, tmp_path: Path) -> None:
    frame = pd.DataFrame({"review": ["good bread", "stale tea", None]})
    why = po.Run(runs / "joint").explain(frame, ["mood"], checks=0, quiet=True)
    assert why.answers.row.tolist() == [0, 1]
    assert why.answers.answer.tolist() == ["glad", "angry"]
    words = why.words.set_index(["row", "word"]).adds
    assert words[0, "good"] > abs(words[0, "bread"])
    assert why.doubts == []
    page = why.save(tmp_path / "why")
    assert json.loads((page.parent / "explain.json").read_text())["tasks"].keys() == {"mood"}
    with pytest.raises(UsageError, match="overwrite"):
        why.save(tmp_path / "why")
    with pytest.raises(UsageError, match="no map of image for task mood and row 0"):
        why.map("mood", 0)
    with pytest.raises(UsageError, match="steps must be >= 1, got 0"):
        po.explain(runs / "joint", frame, steps=0)


def test_an_ensemble_whose_members_read_texts_differently_is_explained(
    runs: Path, tmp_path: Path
) -> None:
    members, options = [runs / "joint", runs / "alone"], ["tracking=none", "evaluate=false"]
    model = po.merge(members, "ensemble", tmp_path / "both", overrides=options, quiet=True)
    assert set(model._predictor.modalities) == {"text", "text-2"}
    why = model.explain({"text": ["good warm bread", "stale tea"]}, checks=2, quiet=True)
    assert why.answers.missing.max() < 0.05
    found = why.words.set_index(["task", "row", "word"]).adds
    assert found["mood", 0, "good"] > abs(found["mood", 0, "bread"])
    assert len(why.as_dict()["tasks"]["mood"]["answers"][0]["examples"]) == 3


def test_explaining_changes_no_answer(runs: Path) -> None:
    model = po.load(runs / "joint")
    frame = {"text": ["good bread", "stale tea"]}
    before = model.predict(frame)
    model.explain(frame, checks=2, examples=0, quiet=True)
    pd.testing.assert_frame_equal(model.predict(frame), before)


@pytest.mark.parametrize("ended", [True, False])
def test_a_tracked_run_that_has_ended_gets_page_and_file(
    ended: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Path] = []
    monkeypatch.setattr("pipeline.explanation.output.sync", sent.append)
    checkpoint = tmp_path / "run/checkpoints/best.ckpt"
    checkpoint.parent.mkdir(parents=True)
    (tmp_path / "run/config.yaml").write_text("seed: 0\n")
    operations = OperationJournal(tmp_path / "run" / OPERATIONS)
    operations.start("mine", {"uri": "sqlite:///mlflow.db", "experiment": "shop"})
    if ended:
        operations.add("status", status="FINISHED")
    operations.close()
    page = tmp_path / "run/explanation/explain.html"
    record_in_run(checkpoint, [page], new_console())
    record_in_run(checkpoint, [tmp_path / "elsewhere/explain.html"], new_console())
    added = [record for record, _ in read_records(tmp_path / "run" / OPERATIONS)][1 + ended :]
    assert sent == [tmp_path / "run"] * ended
    wanted = {"op": "artifact", "path": "explanation/explain.html", "folder": "explanation"}
    assert [{key: one[key] for key in wanted} for one in added] == [wanted] * ended


def test_two_models_part_where_a_words_share_differs() -> None:
    text = text_pieces("good warm bread", np.zeros((0, 2), np.int64))
    first, second = (
        Explanation(0, "mood", 0, "glad", {}, 1.0, 0.0, {"text": torch.tensor(adds)}, text)
        for adds in ([6.0, 2.0, -2.0], [1.0, 1.0, 0.0])
    )
    found = OtherExplanation(second, {"text": 0.5}).parting(first)
    assert [word for word, *_ in found] == ["warm", "bread", "good"]
    assert found[1][1:] == pytest.approx((-0.2, 0.0))
    assert OtherExplanation(second, {}).parting(first) == []
