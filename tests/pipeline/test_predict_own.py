"""Predicting for pairs of texts, sounds, and every type of task."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from pipeline.fit import main as fit
from pipeline.predict import main as predict
from pipeline.prediction.predictor import Predictor
from pipeline.serving.folder import DATA, DESCRIPTION, WEIGHTS, export
from pipeline.serving.pyfunc import ServedModel

SHOP = Path(__file__).parents[1] / "data"
SMALL = (
    "tracking=none",
    "trainer.max_steps=2",
    "dim=8",
    "encoder.text.width=8",
    "encoder.text.pairs=64",
    "encoder.image.width=8",
)
Train = Callable[[str, dict[str, Any]], Path]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Train on a changed data file of the shop; return the run's folder."""

    def trained(name: str, change: dict[str, Any]) -> Path:
        root = tmp_path_factory.mktemp("own")
        spec = yaml.safe_load((SHOP / f"{name}.yaml").read_text(encoding="utf-8"))
        shop = spec["datasets"]["shop"]
        shop["path"] = str(SHOP / shop["path"])
        shop.update(change)
        (root / "data.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("POLLINATE_RUN_DIR", "")
            assert fit([*SMALL, f"data={root}/data.yaml", f"run_dir={root}/run"]) == 0
        return root / "run"

    return trained


@pytest.fixture(scope="module")
def pairs(train: Train) -> Path:
    return train("csv", {"inputs": {"text": ["title", "slots"]}})


@pytest.fixture(scope="module")
def sounds(train: Train) -> Path:
    return train("audio_folder", {})


@pytest.fixture(scope="module")
def every_task(train: Train) -> Path:
    return train("tasks", {})


def answers(run: Path, source: Path, output: Path, *more: str) -> list[dict[str, str]]:
    assert predict([f"checkpoint={run}", f"input={source}", f"output={output}", *more]) == 0
    with output.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_pair_of_columns_is_read_as_in_training(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("title,slots\nbig hat,O B-thing\nonly one,\n,\n")
    rows = answers(pairs, tmp_path / "new.csv", tmp_path / "out.csv")
    assert [bool(row["size"]) for row in rows] == [True, True, False]
    assert rows[2]["error"] == "title+slots empty"


def test_a_pair_can_be_named(pairs: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "new.csv").write_text("a,b\nbig hat,O B-thing\n")
    named = "columns={text: [a, b]}"
    assert answers(pairs, tmp_path / "new.csv", tmp_path / "out.csv", named)[0]["size"]
    for wrong, said in (("{text: [a, c]}", "columns.text=c is not in"), ("{text: [a]}", "a pair")):
        arguments = [f"checkpoint={pairs}", f"input={tmp_path}/new.csv", f"columns={wrong}"]
        assert predict([*arguments, f"output={tmp_path}/none.csv"]) == 2
        assert said in capsys.readouterr().err


def test_both_texts_of_a_pair_count(pairs: Path) -> None:
    predictor = Predictor.load(pairs / "checkpoints" / "best.ckpt")
    found = predictor.predict({"text": [("big hat", "O B-thing"), ("big hat", "B-number")]})
    first, second = found.answers["size"]
    assert first is not None and second is not None
    assert first["probability"] != second["probability"]


def test_a_folder_of_sounds(sounds: Path, tmp_path: Path) -> None:
    folder = SHOP / "sounds" / "test"
    rows = answers(sounds, folder, tmp_path / "out.csv")
    assert len(rows) == len(list(folder.rglob("*.wav")))
    assert all(row["kind"] and not row["error"] for row in rows)


def test_a_table_of_sounds_and_one_that_is_none(sounds: Path, tmp_path: Path) -> None:
    sound = next((SHOP / "sounds" / "test").rglob("*.wav"))
    (tmp_path / "a.wav").write_bytes(sound.read_bytes())
    (tmp_path / "b.wav").write_bytes(b"no sound")
    (tmp_path / "new.csv").write_text("audio\na.wav\nb.wav\n../c.wav\n")
    rows = answers(sounds, tmp_path / "new.csv", tmp_path / "out.csv")
    assert [bool(row["kind"]) for row in rows] == [True, False, False]
    assert "audio" in rows[1]["error"] and "must stay below" in rows[2]["error"]


def test_a_folder_of_pictures_and_sounds_is_refused(
    sounds: Path, tmp_path: Path, capsys: Any
) -> None:
    for name in ("a.wav", "a.png"):
        (tmp_path / name).touch()
    assert predict([f"checkpoint={sounds}", f"input={tmp_path}", f"output={tmp_path}/o.csv"]) == 1
    assert "has both images and sounds" in capsys.readouterr().err


def test_every_type_of_task_answers(every_task: Path, tmp_path: Path) -> None:
    rows = answers(every_task, SHOP / "shop.csv", tmp_path / "out.csv")
    row = rows[0]
    assert row["size"] in ("small", "big")
    assert isinstance(float(row["price"]), float)
    assert row["stars"] in list("12345")
    assert len(row["slots"].split()) == len(row["title"].split())
    assert len(json.loads(row["pairs_text"])) == len(json.loads(row["pairs_image"])) == 8


def served(run: Path, folder: Path) -> tuple[ServedModel, list[str]]:
    export(run / "checkpoints" / "best.ckpt", folder)
    description = json.loads((folder / DATA / DESCRIPTION).read_text(encoding="utf-8"))
    return ServedModel(Predictor.load(folder / DATA / WEIGHTS)), description["inputs"]


def test_a_served_model_takes_pairs(pairs: Path, tmp_path: Path) -> None:
    model, inputs = served(pairs, tmp_path / "model")
    assert inputs == ["text", "text_pair"]
    found = model.predict(pd.DataFrame({"text": ["hat", ""], "text_pair": ["B-thing", ""]}))
    assert [bool(label) for label in found["size"]] == [True, False]


def test_a_served_model_takes_sounds(sounds: Path, tmp_path: Path) -> None:
    model, inputs = served(sounds, tmp_path / "model")
    assert inputs == ["audio"]
    sound = next((SHOP / "sounds" / "test").rglob("*.wav")).read_bytes()
    found = model.predict(pd.DataFrame({"audio": [sound, b"no sound"]}))
    assert [bool(label) for label in found["kind"]] == [True, False]
    assert "audio" in found["error"][1]
