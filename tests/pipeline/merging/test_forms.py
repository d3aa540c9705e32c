"""Models that read their inputs differently answer together, each from the raw row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from lightning_modules.checkpoints import read_checkpoint, read_spec, write_checkpoint
from lightning_modules.predictor import Predictor
from pipeline.evaluate import main as evaluate
from pipeline.merge import main
from pipeline.serving.model_folder import DATA_FOLDER
from pipeline.serving.pyfunc import _load_pyfunc
from tests.data.make import HERE
from tests.lean_fit import fit
from tests.merged_runs import QUIET, best, summary, uncalibrated
from tests.models import bert, with_weights

DATA = f"""
datasets:
  shop:
    source: csv
    path: {HERE / "shop.csv"}
    inputs: {{text: title, image: photo}}
    split: {{column: split}}
tasks:
  size: {{dataset: shop, type: classification, target: size}}
  stars: {{dataset: shop, type: ordinal, target: stars}}
  slots: {{dataset: shop, type: tagging, target: slots}}
  parts: {{dataset: shop, type: segmentation, target: mask, classes: [shelf, article]}}
text: {{vocab_size: 300, max_length: 16}}
image: {{size: [8, 8], channels: 1}}
"""
SMALL = (
    *("dim=8", "encoder.text.pairs=64", "encoder.text.width=8", "encoder.image.width=8"),
    *("sampler.batch_size=8", "trainer.max_steps=1", "gradients.every_n_steps=0"),
    *("tracking=none", "preset=none", "baseline=none"),
)
MEMBERS = ("bert", "bag", "linear")
ROWS = {
    "text": ["small red cup", "big hat", None],
    "image": [
        HERE / "photos" / "valid" / name for name in ("cup/06.png", "hat/22.png", "pen/14.png")
    ],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of all inputs: a bag of tokens, a pre-trained encoder with its own, linear models."""
    root = tmp_path_factory.mktemp("forms")
    (root / "shop.yaml").write_text(DATA)
    model = with_weights(bert(root / "model"))
    text = ["encoder/text=transformers", f"encoder.text.model={model}", "data.image.size=[12,10]"]
    given = [f"data={root / 'shop.yaml'}", *SMALL]
    plain = [word for word in given if "encoder.text" not in word]
    tasks = "tasks=[size,stars,slots]"
    assert fit([*given, tasks, f"run_dir={root / 'bag'}"]) == 0
    bag = read_checkpoint(best(root / "bag"))  # as if it had taken a tokenizer over
    bag["pollinate"]["config"]["data"]["text"]["tokenizer"] = str(root / "tokenizer.json")
    write_checkpoint(bag, best(root / "bag"))
    assert fit([*plain, *text, tasks, f"run_dir={root / 'bert'}"]) == 0
    wide = ["model=linear", "data.text.wide=true", "tasks=[size,stars]"]
    assert fit([*given, *wide, f"run_dir={root / 'linear'}"]) == 0
    return root


@pytest.fixture(scope="module")
def ensemble(home: Path) -> Path:
    given = "models={" + ",".join(f"{name}: {home / name}" for name in MEMBERS) + "}"
    assert main([given, "method=ensemble", f"output={home / 'all'}", QUIET]) == 0
    return home / "all"


def shares(run: Path, task: str = "size", rows: Mapping[str, Any] = ROWS) -> torch.Tensor:
    """Return the probabilities of a task's classes: (N, C)."""
    found = uncalibrated(best(run)).predict(rows, [task]).answers[task]
    return torch.tensor([list(row["probabilities"].values()) for row in found if row])


def test_each_reads_the_raw_row_by_its_own(home: Path, ensemble: Path) -> None:
    mean = torch.stack([shares(home / name) for name in MEMBERS]).mean(dim=0)
    assert len(mean) == 3  # also of a row without a text
    torch.testing.assert_close(shares(ensemble), mean)
    only_text = {"text": ["small red cup", "big hat"]}
    mean = torch.stack([shares(home / name, rows=only_text) for name in MEMBERS]).mean(dim=0)
    torch.testing.assert_close(shares(ensemble, rows=only_text), mean)


def test_what_two_read_alike_is_read_once(home: Path, ensemble: Path) -> None:
    spec = read_spec(best(ensemble))
    data = spec["config"]["data"]
    forms = {name for name in data if name.startswith(("text", "image"))}
    assert forms == {"image", "image-2", "text", "text-2"}
    assert data["text"]["wide"] and not data["text-2"]["wide"]  # linear models read any terms
    assert (data["image"]["size"], data["image-2"]["size"]) == ([12, 10], [8, 8])
    assert [own.get("forms") for own in spec["config"]["members"]] == [
        {"image": "image", "text": "text"},
        {"image": "image-2", "text": "text-2"},
        {"image": "image-2", "text": "text"},
    ]
    out = home / "alike"
    given = f"models=[{home / 'bag'},{home / 'linear'}]"
    assert main([given, "method=ensemble", f"output={out}", QUIET, "evaluate=false"]) == 0
    alike = read_spec(best(out))
    assert not {"text-2", "image-2"} & set(alike["config"]["data"])
    assert not any("forms" in own for own in alike["config"]["members"])
    assert Predictor.load(best(out)).network.forms == {}


def test_it_scores_as_what_was_written_and_so_does_each_member(
    home: Path, ensemble: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate([f"checkpoint={ensemble}"]) == 0
    scores = json.loads((ensemble / "evaluation-test.json").read_text())["scores"]
    found = summary(ensemble)
    assert scores == found["test"] and scores.keys() == {"size", "stars", "slots"}
    assert "image+text" in capsys.readouterr().out
    for one in found["parents"]:
        own = summary(home / one["label"])["test"]
        for task, metrics in one["test"].items():
            assert metrics == pytest.approx(own[task], abs=1e-6, nan_ok=True)


def test_it_is_served_and_a_member_of_another(home: Path, ensemble: Path) -> None:
    served = _load_pyfunc(str(ensemble / "model" / DATA_FOLDER))
    contents = [path.read_bytes() for path in ROWS["image"]]  # type: ignore[union-attr]
    found = served.predict(pd.DataFrame({"text": ["small red cup", "", "hat"], "image": contents}))
    assert not found["error"].any() and found["size"].notna().all()
    out = home / "nested"
    given = f"models={{bert: {home / 'bert'}, all: {ensemble}}}"
    words = ["method=ensemble", "method.weights.size={bert: 1, all: 3}", "evaluate=false"]
    assert main([given, *words, f"output={out}", QUIET]) == 0
    mean = (shares(home / "bert") + 3 * shares(ensemble)) / 4
    torch.testing.assert_close(shares(out), mean)
    data = read_spec(best(out))["config"]["data"]
    assert {name for name in data if "-" in name} == {"text-2", "image-2"}


def test_a_network_learns_from_it(home: Path, ensemble: Path) -> None:
    words = ["transfer=hinton", f"transfer.teachers={{size: {ensemble}, stars: {ensemble}}}"]
    given = [f"data={home / 'shop.yaml'}", *SMALL, "tasks=[size,stars]", "data.image.shift=1"]
    assert fit([*given, *words, f"run_dir={home / 'student'}"]) == 0
    assert summary(home / "student")["status"] == "finished"


def test_masks_lie_on_pictures_of_one_size(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"data={home / 'shop.yaml'}", *SMALL, "tasks=[parts]", f"run_dir={tmp_path / 'parts'}"]
    assert fit(given) == 0
    both = f"models=[{tmp_path / 'parts'},{home / 'bert'}]"
    assert main([both, "method=ensemble", f"output={tmp_path / 'out'}", QUIET]) == 2
    error = capsys.readouterr().err
    assert "data.image.size is [8, 8] in parts, [12, 10] in bert; they must read alike" in error
    assert "text" not in error
