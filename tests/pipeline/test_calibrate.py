"""Calibration as part of a run and of its checkpoint: fitted, kept, used, and absent."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import pytest
import torch

import pollinate as po
from lightning_modules.checkpoints import read_checkpoint, read_spec, write_checkpoint
from lightning_modules.trust.stored import TRUST, restore_trust
from pipeline.merge import main as merge
from pipeline.plots.reliability import draw_reliability
from pipeline.predict import main as predict
from pipeline.serving.pyfunc import ServedModel
from pollinate.errors import UsageError
from pollinate.files import as_yaml
from tests.lean_fit import lean_runs
from tests.small_shop import SMALL, reviews, shop


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> po.Run:
    """A run of four kinds of tasks, not to be changed."""
    folder = tmp_path_factory.mktemp("calibrated")
    data = shop(folder)
    frame = reviews(400)
    frame["level"] = (frame["stars"] / 2).round().astype(int)
    frame["things"] = [
        "|".join(sorted(set(text.split()) & {"bread", "cake", "tea"})) or "none"
        for text in frame["review"]
    ]
    frame.to_csv(folder / "reviews.csv", index=False)
    data["tasks"] |= {
        "level": {"dataset": "reviews", "type": "ordinal", "target": "level"},
        "things": {
            "dataset": "reviews",
            "type": {"_target_": "pollinate.tasks.Multilabel", "none": "none"},
            "target": "things",
        },
    }
    drawn = patch("pipeline.training_run.draw_reliability", draw_reliability)
    with lean_runs(), drawn:
        return po.fit(data, [*SMALL, f"run_dir={folder / 'one'}"], quiet=True)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> po.Run:
    folder = tmp_path_factory.mktemp("plain")
    own = [*SMALL, "calibration=none", "keep_outputs=[valid,test]", f"run_dir={folder / 'one'}"]
    with lean_runs():
        return po.fit(shop(folder), own, quiet=True)


def test_a_run_is_calibrated_and_says_so(run: po.Run) -> None:
    assert sorted(run.calibration) == ["level", "mood", "stars", "things"]
    found = run.calibration["mood"]
    assert found["calibrator"] in ("temperature", "vector")
    assert {"ece_before", "ece", "ece_debiased", "nll", "brier", "coverage", "size"} <= set(found)
    assert {"crps", "nll", "coverage"} <= set(run.calibration["stars"])
    assert (run.folder / "plots" / "reliability.png").is_file()


def test_no_score_depends_on_it(plain: po.Run, tmp_path: Path) -> None:
    with lean_runs():
        other = po.fit(shop(tmp_path), [*SMALL, f"run_dir={tmp_path / 'one'}"], quiet=True)
    assert other.scores == plain.scores
    assert other.valid_scores == plain.valid_scores
    assert plain.calibration == {}


def test_answers_stay_and_sets_come_on_request(run: po.Run) -> None:
    frame = reviews(60, seed=5)
    usual = run.predict(frame, inputs={"text": "review"})
    asked = run.predict(frame, inputs={"text": "review"}, coverage=0.8)
    assert asked[usual.columns.tolist()].equals(usual)
    more = [name for name in asked.columns if name not in usual.columns]
    assert more == [
        "mood_set",
        "stars_low",
        "stars_high",
        "level_low",
        "level_high",
        "things_set",
    ]
    assert all(row["mood"] in json.loads(row["mood_set"]) for _, row in asked.iterrows())
    assert ((asked.stars_low <= asked.stars) & (asked.stars <= asked.stars_high)).all()
    inside = (asked.stars_low <= frame["stars"]) & (frame["stars"] <= asked.stars_high)
    assert inside.mean() > 0.6


def test_doubtful_answers_are_marked(run: po.Run) -> None:
    frame = reviews(80, seed=6)
    found = run.predict(frame, {"text": "review"}, ["mood"], abstain={"answered": 0.5})
    marked = found["mood_abstain"] == "unsure"
    assert 0.2 < marked.mean() < 0.8
    assert found.mood_probability[marked].max() < found.mood_probability[~marked].min()
    strange = run.predict(
        {"text": ["zzz qqq 123 %%%"] * 3}, tasks=["mood"], abstain={"false_alarms": 0.3}
    )
    assert set(strange["mood_abstain"]) <= {"", "out of scope"}
    with pytest.raises(UsageError, match=r"abstain takes risk, .*, together, got rsk"):
        run.predict(frame, {"text": "review"}, abstain={"rsk": 0.1})
    with pytest.raises(UsageError, match="stars abstains from nothing"):
        run.predict(frame, {"text": "review"}, ["stars"], abstain={"risk": 0.1})


def test_a_row_is_marked_by_all_its_tasks_together(run: po.Run) -> None:
    trust = restore_trust(read_spec(run.checkpoint), run.model().tasks)
    (scope,) = trust.rows.values()
    assert set(scope.tasks) == {"mood", "stars", "level", "things"}
    frame = reviews(80, seed=6)
    together = {"false_alarms": 0.3, "together": True}
    two = ["mood", "level"]
    found = run.predict(frame, {"text": "review"}, two, abstain=together)
    assert found["mood_abstain"].tolist() == found["level_abstain"].tolist()
    assert 0.1 < (found["mood_abstain"] == "out of scope").mean() < 0.6
    with pytest.warns(UserWarning, match="no two of them have scores"):
        alone = run.predict(frame, {"text": "review"}, ["mood"], abstain=together)
    own = run.predict(frame, {"text": "review"}, ["mood"], abstain={"false_alarms": 0.3})
    assert alone["mood_abstain"].tolist() == own["mood_abstain"].tolist()
    with pytest.raises(UsageError, match=r"abstain.together needs abstain.false_alarms"):
        run.predict(frame, {"text": "review"}, abstain={"together": True})


def test_too_high_a_coverage_says_what_is_needed(run: po.Run) -> None:
    with pytest.warns(UserWarning, match=r"0\.999 needs 999 calibration rows, there are 80"):
        found = run.predict({"text": ["good bread"]}, tasks=["mood"], coverage=0.999)
    assert json.loads(found["mood_set"][0]) in (["angry", "glad"], ["glad", "angry"])


def test_the_command_writes_the_columns(run: po.Run, tmp_path: Path) -> None:
    reviews(20, seed=7).to_csv(tmp_path / "new.csv", index=False)
    words = [f"checkpoint={run.folder}", f"input={tmp_path / 'new.csv'}", "columns.text=review"]
    words += [f"output={tmp_path / 'out.csv'}", "coverage=0.8", "abstain.answered=0.7"]
    assert predict(words) == 0
    found = pd.read_csv(tmp_path / "out.csv")
    assert {"mood_set", "stars_low", "level_high", "things_set", "mood_abstain"} <= {*found}
    assert len(found) == 20


def test_a_served_model_answers_requests_for_sets(run: po.Run) -> None:
    served = ServedModel(run.model()._predictor)
    table = pd.DataFrame({"text": ["good bread", "bad tea"]})
    assert "mood_set" not in served.predict(table)
    found = served.predict(table, {"coverage": 0.8, "risk": 0.0})
    assert all(json.loads(cell) for cell in found["mood_set"])


def test_an_uncalibrated_checkpoint_works_as_before_and_is_calibrated_later(
    plain: po.Run, tmp_path: Path
) -> None:
    frame = reviews(30, seed=8)
    before = plain.predict(frame, {"text": "review"})
    with pytest.raises(UsageError, match=r"isn't calibrated.*pollinate calibrate checkpoint=PATH"):
        plain.predict(frame, {"text": "review"}, coverage=0.9)
    path = tmp_path / "calibrated.ckpt"
    found = po.calibrate(plain, [f"output={path}", "coverage=0.8"], quiet=True)
    assert found["mood"]["ece_before"] >= 0
    answers = po.load(path).predict(frame, {"text": "review"})
    assert answers["mood"].equals(before["mood"])
    assert {"mood_set", "stars_low"} <= {*answers}  # the coverage is the checkpoint's own


def test_what_is_kept_is_plain_and_what_it_was(run: po.Run) -> None:
    saved = torch.load(run.checkpoint, weights_only=True)["pollinate"][TRUST]
    assert sorted(saved["tasks"]) == ["level", "mood", "stars", "things"]
    restored = restore_trust(read_spec(run.checkpoint), run.model().tasks)
    for name, own in saved["tasks"].items():
        again = restored.tasks[name].state()
        assert torch.equal(again["sets"]["scores"], own["sets"]["scores"])


def test_evaluate_reports_calibration(run: po.Run, tmp_path: Path) -> None:
    po.evaluate(run, "test", [f"run_dir={tmp_path}"], quiet=True)
    found = json.loads((tmp_path / "evaluation-test.json").read_text())["calibration"]
    assert found["mood"]["ece"] == pytest.approx(run.calibration["mood"]["ece"], abs=1e-6)


def test_an_ensemble_is_calibrated_by_the_command(plain: po.Run, tmp_path: Path) -> None:
    output = tmp_path / "both"
    twice = tmp_path / "again.ckpt"
    shutil.copy(plain.checkpoint, twice)
    words = [f"models=[{plain.checkpoint},{twice}]", "method=ensemble", f"output={output}"]
    assert merge([*words, "tracking=none"]) == 0
    found = po.calibrate(output, quiet=True)
    own = po.calibrate(plain, [f"output={tmp_path / 'one.ckpt'}"], quiet=True)
    assert found["mood"]["nll"] == pytest.approx(own["mood"]["nll"], abs=1e-3)
    answers = po.load(output).predict(reviews(20), {"text": "review"}, parts=True)
    for name in ("mood", "stars"):  # the members are the same
        assert answers[f"{name}_total"].gt(0).all()
        assert answers[f"{name}_epistemic"].max() == pytest.approx(0, abs=1e-6)


def test_rows_are_held_back_where_a_coverage_is_asked(tmp_path: Path) -> None:
    own = [*SMALL, "coverage=0.9", f"run_dir={tmp_path / 'one'}"]
    with lean_runs():
        run = po.fit(shop(tmp_path), own, quiet=True)
    trust = restore_trust(read_spec(run.checkpoint), run.model().tasks)
    sets = trust.tasks["mood"].sets
    assert sets is not None
    assert sets.rows == 24  # half of the 48 validation rows
    assert "mood_set" in run.predict({"text": ["good bread"]})


def test_a_strange_calibration_in_a_checkpoint_is_left_out(run: po.Run, tmp_path: Path) -> None:
    content = read_checkpoint(run.checkpoint)
    content["pollinate"][TRUST]["tasks"]["mood"]["calibrator"]["name"] = "os.system"
    write_checkpoint(content, tmp_path / "strange.ckpt")
    found = po.load(tmp_path / "strange.ckpt").predict({"text": ["good"]}, tasks=["mood"])
    assert found["mood"][0] in ("glad", "angry")


def test_dropout_shows_what_a_model_is_unsure_of(run: po.Run) -> None:
    frame = reviews(30, seed=9)
    found = run.predict(frame, {"text": "review"}, ["mood", "stars"], parts=True, dropout=4)
    again = run.predict(frame, {"text": "review"}, ["mood", "stars"], parts=True, dropout=4)
    assert found.equals(again)  # what is dropped is seeded
    assert found["mood"].equals(run.predict(frame, {"text": "review"}, ["mood"])["mood"])
    parts = found["stars_aleatoric"] + found["stars_epistemic"]
    assert (found["stars_total"] - parts).abs().max() < 1e-6
    assert found["stars_epistemic"].max() > 0
    with pytest.raises(UsageError, match="dropout must be >= 0 times, and needs parts=true"):
        run.predict(frame, {"text": "review"}, dropout=4)


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs/how_to/trust.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    monkeypatch.chdir(tmp_path)
    Path("shop.yaml").write_text(as_yaml(shop(tmp_path)), encoding="utf-8")
    torch.manual_seed(0)
    values: dict[str, Any] = {}
    with lean_runs():
        for block in blocks:
            exec(block, values)  # the project's own page
    assert {"mood_set", "stars_low"} <= {*values["answers"]}
    assert "mood_abstain" in values["doubtful"]
    assert "mood_set" in values["run"].predict({"text": ["good bread"]})
