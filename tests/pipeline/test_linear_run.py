"""Linear models that are kept: they answer, serve and join ensembles as trained ones do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import pollinate as po
from datamodules.cache import Cache
from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.checkpoints import read_spec
from lightning_modules.linear_network import LinearNetwork
from lightning_modules.trust.stored import restore_trust
from lightning_modules.wide_fit import best_scale
from pipeline import linear_run
from pipeline.build import build_datamodule
from pipeline.configuration.composition import compose
from pipeline.evaluate import main as evaluate
from pipeline.export import main as export
from pipeline.linear.scores import RowMatrices, examples_of, linear_scores
from pipeline.linear_run import fit_task, fit_tasks
from pipeline.merge import main as merge
from pipeline.serving.model_folder import DATA_FOLDER
from pipeline.serving.pyfunc import _load_pyfunc
from tests.data.make import HERE
from tests.lean_fit import fit
from tests.small_shop import SMALL, reviews

SPLIT = {"train": 0.6, "valid": 0.2, "test": 0.2}
FILE = """
datasets:
  reviews:
    source: csv
    path: {path}
    split: {{train: 0.6, valid: 0.2, test: 0.2}}
    inputs: {{text: review}}
  photos:
    source: npz
    path: {photos}
    lengths: {{tone: length}}
    names: {{kind: kinds}}
    inputs: {{image: photo}}
    split: {{column: split}}
tasks:
  mood: {{dataset: reviews, type: classification, target: mood}}
  stars: {{dataset: reviews, type: regression, target: stars}}
  topics: {{dataset: reviews, type: multilabel, target: topics, none: none}}
  place: {{dataset: reviews, type: ordinal, target: place}}
  slots: {{dataset: reviews, type: tagging, target: slots}}
  kind: {{dataset: photos, type: classification, target: kind}}
text: {{vocab_size: 300, max_length: 16}}
image: {{size: [8, 8], channels: 1}}
"""


def table() -> pd.DataFrame:
    """Reviews of which a fifth has another mood than its words say."""
    frame = reviews(200)
    other = np.random.default_rng(0).random(len(frame)) < 0.2
    frame["mood"] = frame.mood.where(~other, frame.mood.map({"glad": "angry", "angry": "glad"}))
    words = ("bread", "tea", "pie")
    frame["topics"] = ["|".join(w for w in words if w in t) or "none" for t in frame.review]
    frame["place"] = frame.stars.astype(int)
    tags = [["B-food" if w == "pie" else "O" for w in text.split()] for text in frame.review]
    frame["slots"] = [" ".join(own) for own in tags]
    return frame


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``linear`` and, of the same data, ``network``."""
    root = tmp_path_factory.mktemp("linear")
    table().to_csv(root / "reviews.csv", index=False)
    photos = HERE / "shop.npz"
    (root / "shop.yaml").write_text(FILE.format(path=root / "reviews.csv", photos=photos))
    given = [f"data={root / 'shop.yaml'}", *SMALL, "keep_outputs=[valid,test]"]
    assert fit([*given, "model=linear", f"run_dir={root / 'linear'}"]) == 0
    small = ["encoder.image.width=8", "trainer.max_epochs=1", "tasks=[mood,stars,slots]"]
    assert fit([*given, *small, f"run_dir={root / 'network'}"]) == 0
    return root


@pytest.fixture(scope="module")
def run(home: Path) -> po.Run:
    return po.Run(home / "linear")


def close(found: dict[str, float], expected: dict[str, float]) -> None:
    for metric, value in expected.items():
        assert found[metric] == pytest.approx(value, abs=1e-5, nan_ok=True), metric


def data_of(run: po.Run) -> MixedDataModule:
    data = build_datamodule({**run.config, "allow_targets": []})
    data.setup()
    return data


def test_its_scores_are_the_linear_column_s(run: po.Run, tmp_path: Path) -> None:
    column = linear_scores(data_of(run), Cache(tmp_path)).scores
    assert run.scores.keys() == column["test"].keys() == run.model().tasks.keys()
    assert run.scores["mood"]["accuracy"] > 0.6 and run.scores["stars"]["r2"] > 0.9
    for task, expected in column["test"].items():
        close(run.scores[task], expected)
        close(run.valid_scores[task], column["valid"][task])


@pytest.mark.parametrize("name", ["tasks", "audio_folder"])
def test_so_are_those_of_sounds_and_of_rows_with_several_inputs(name: str, tmp_path: Path) -> None:
    given = [f"data={HERE / name}.yaml", "model=linear", "tracking=none"]
    assert fit([*given, f"run_dir={tmp_path / 'run'}"]) == 0
    run = po.Run(tmp_path / "run")
    for task, expected in linear_scores(data_of(run), Cache(tmp_path)).scores["test"].items():
        close(run.scores[task], expected)


def test_a_task_without_one_is_left_out(run: po.Run) -> None:
    assert run.summary["no_linear"].keys() == {"slots"}
    assert "slots" not in run.config["data"]["tasks"]
    assert run.config["data"]["text"]["wide"] is True
    assert run.summary["parameters"]["total"] > 1000


def test_it_is_measured_as_it_was(run: po.Run, tmp_path: Path) -> None:
    assert evaluate([f"checkpoint={run.checkpoint}", f"run_dir={tmp_path}"]) == 0
    found = json.loads((tmp_path / "evaluation-test.json").read_text())["scores"]
    assert found == run.summary["test"]


def test_it_answers_raw_rows_as_it_answered_its_data(run: po.Run) -> None:
    kept, frame = run.outputs("test"), table()
    frame = frame.iloc[kept["mood"]["rows"]["reviews"].numpy()]
    found = run.predict(frame, inputs={"text": "review"})
    right = (kept["mood"]["output"].argmax(1) == kept["mood"]["target"]).tolist()
    assert (found["mood"] == frame["mood"]).tolist() == right
    assert np.allclose(found["stars"], kept["stars"]["output"], atol=1e-5)
    trust = restore_trust(read_spec(run.checkpoint), run.model().tasks).tasks["mood"]
    chance = trust.calibrated(kept["mood"]["output"]).softmax(1).max(1).values
    assert np.allclose(found["mood_probability"], chance, atol=1e-6)
    assert run.predict({"text": ["", "good bread"]})["mood"].notna().tolist() == [False, True]
    with np.load(HERE / "shop.npz") as arrays:
        pictures = list(arrays["photo"])
    places = run.outputs("test")["kind"]["rows"]["photos"]
    answers = run.predict({"image": [pictures[place] for place in places]})["kind"]
    classes = run.model().tasks["kind"].classes
    assert answers.tolist() == [classes[k] for k in kept["kind"]["output"].argmax(1)]


def test_its_probabilities_are_calibrated_by_one_factor(run: po.Run) -> None:
    loss = run.valid_scores["mood"]["loss"]
    output, target = (run.outputs("valid")["mood"][key] for key in ("output", "target"))
    mood = run.model().tasks["mood"]
    scales = (0.7, 0.85, 1.0, 1.2, 1.4)
    losses = [mood.loss(scale * output, target).mean().item() for scale in scales]
    assert min(losses) == losses[2] == pytest.approx(loss, rel=1e-5)


def test_where_validation_rows_are_few_folds_choose_the_factor(
    run: po.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_run, "FEWEST", 1000)
    seen: list[int] = []

    def spied(task: Any, shift: Tensor, targets: Tensor) -> tuple[float, float]:
        seen.append(len(targets))
        return best_scale(task, shift, targets)

    monkeypatch.setattr(linear_run, "best_scale", spied)
    data = data_of(run)
    rows = RowMatrices(data)
    assert 0.2 < fit_task("mood", data, rows).scale < 20
    assert seen == [len(examples_of("mood", data, rows)["train"].targets)] == [120]


def test_it_is_served(run: po.Run) -> None:
    served = _load_pyfunc(str(run.folder / "model" / DATA_FOLDER))
    found = served.predict(pd.DataFrame({"text": ["good bread", "stale tea"]}))
    expected = run.predict({"text": ["good bread", "stale tea"]})
    assert found["mood"].tolist() == expected["mood"].tolist()
    requirements = (run.folder / "model" / "requirements.txt").read_text()
    assert "transformers" not in requirements


def test_it_is_a_member_of_an_ensemble_beside_a_network(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = f"models={{linear: {home / 'linear'}, network: {home / 'network'}}}"
    weights = ["method.weights.mood.linear=3", "method.weights.mood.network=1"]
    own = ["method=ensemble", *weights, f"output={out}", "tracking=none"]
    assert merge([given, *own]) == 0
    found = po.Run(out)
    assert list(found.scores) == ["mood", "stars", "topics", "place", "kind", "slots"]
    members = [po.Run(home / name).outputs("test")["mood"] for name in ("linear", "network")]
    assert torch.equal(members[0]["target"], members[1]["target"])
    chances = sum(w * m["output"].softmax(1) for w, m in zip((0.75, 0.25), members, strict=True))
    right = (chances.argmax(1) == members[0]["target"]).double().mean().item()
    assert found.scores["mood"]["accuracy"] == pytest.approx(right)
    assert evaluate([f"checkpoint={out}"]) == 0
    assert found.predict({"text": ["good bread"]})["slots"].notna().all()
    served = _load_pyfunc(str(out / "model" / DATA_FOLDER))
    assert served.predict(pd.DataFrame({"text": ["good bread"]}))["mood"].notna().all()


def test_what_it_has_not_is_refused(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    linear, data = home / "linear", f"data={home / 'shop.yaml'}"
    quiet = ["tracking=none", f"run_dir={tmp_path / 'x'}"]
    both = f"models=[{linear},{home / 'network'}]"
    commands: list[tuple[Any, list[str], str]] = [
        (fit, [f"resume={linear}", "tracking=none"], "is fitted at once, so there is no training"),
        (
            fit,
            [f"resume={home / 'network'}", "model=linear"],
            "model is 'linear', the checkpoint has None",
        ),
        (fit, [data, "model=linear", "tasks=[slots]", *quiet], "no task has a linear model (slots"),
        (fit, [data, "model=tree", *quiet], 'model must be linear, got "tree"'),
        (
            fit,
            [data, "model=linear", "transfer=hinton", f"transfer.source={home}", *quiet],
            "model=linear takes nothing from other models",
        ),
        (
            fit,
            [data, *SMALL, "transfer=init", f"transfer.source={linear}", *quiet[1:]],
            "is a linear model, which predicts, but has neither features nor weights",
        ),
        (merge, [both, f"output={tmp_path / 'y'}", quiet[0]], "linear model, whose words"),
        (
            export,
            [f"checkpoint={linear}", f"output={tmp_path / 'z'}"],
            "must be a single network with encoders, got a linear model",
        ),
    ]
    for command, arguments, message in commands:
        assert command(arguments) in (1, 2), arguments
        assert message in capsys.readouterr().err, arguments
    with pytest.raises(po.UsageError, match="model=linear isn't trained, so pollinate plan has"):
        compose("plan", [data, "model=linear"])


def test_a_row_without_a_modality_is_answered_by_the_others() -> None:
    config = compose("fit", [f"data={HERE}/tasks.yaml", "model=linear"])
    fitted, reasons = fit_tasks(config)
    assert reasons.keys() == {"slots", "pairs", "parts", "distance"}
    tasks = dict.fromkeys(fitted.tasks, po.tasks.Task)
    assert tasks.keys() == {"size", "marks", "price", "stars"}
    network = LinearNetwork(
        dict(fitted.data.tasks), dict.fromkeys(tasks, ("shop",)), {"shop": ["text", "image"]}
    )
    for name, own in fitted.tasks.items():
        own.fill(network.of_task(name))
    batch = fitted.data.parts["train"]["shop"].batch(np.arange(4))
    whole = network({"shop": batch})
    some = torch.tensor([True, False, True, False])
    batch.inputs["image"] = batch.inputs["image"][some]
    batch.has["image"] = some
    partly = network({"shop": batch})
    for task, output in whole.items():
        assert torch.allclose(partly[task][some], output[some], atol=1e-6)
    assert not torch.allclose(partly["price"][~some], whole["price"][~some])
    batch.inputs["image"], batch.has["image"] = batch.inputs["image"][:0], torch.zeros(4).bool()
    nothing = network({"shop": batch})
    assert torch.allclose(nothing["price"][~some], partly["price"][~some], atol=1e-6)
