"""Masks and depths from files to answers: what a user types, and what comes of it."""

from __future__ import annotations

import base64
import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from datamodules.batch import Batch
from lightning_modules.predictor import Predictor
from pipeline.configuration.composition import compose
from pipeline.fit import main as complete_fit
from pipeline.inspection.inspection_page import inspection_page
from pipeline.inspection.inspection_run import inspect_data
from pipeline.predict import main as predict
from pipeline.serving.model_folder import DATA_FOLDER, WEIGHTS, export_model
from pipeline.serving.pyfunc import ServedModel
from pollinate.errors import PollinateError, UsageError
from tests import lean_fit
from tests.scenes import CLASSES, scene, spec, table, write_scenes
from tests.shops import loaded

SMALL = ("tracking=none", "dim=16", "encoder.image.width=8", "sampler.batch_size=16")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with scenes.csv and its files."""
    folder = tmp_path_factory.mktemp("scenes")
    (folder / "scenes.csv").write_text(table(write_scenes(folder, 160)))
    return folder


def train(
    scenes: Path, run: Path, *options: str, fit: Callable[[list[str]], int] = lean_fit.fit
) -> dict[str, Any]:
    """Train; return the summary."""
    data = spec(path=str(scenes / "scenes.csv"))
    run.parent.mkdir(exist_ok=True)
    (run.parent / "data.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    arguments = [*SMALL, f"data={run.parent}/data.yaml", f"run_dir={run}", *options]
    assert fit([*arguments, f"data.cache={scenes}/cache"]) == 0
    found: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return found


@pytest.fixture(scope="module")
def run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on scenes with flips; its summary says whether it learnt."""
    run = tmp_path_factory.mktemp("dense") / "run"
    options = ("trainer.max_epochs=6", "data.image.augment=flip", "optimizer.lr=0.005")
    train(scenes, run, *options, fit=complete_fit)  # with its plots
    return run


def test_both_tasks_beat_their_baselines(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    test, floor = summary["test"], summary["baseline"]
    assert test["parts"]["miou"] > floor["parts"]["miou"] + 0.3
    assert test["parts"]["pixel_accuracy"] > floor["parts"]["pixel_accuracy"] + 0.1
    assert test["distance"]["abs"] < 0.6 * floor["distance"]["abs"]
    assert test["distance"]["rel"] < 0.6 * floor["distance"]["rel"]
    assert test["distance"]["delta1"] > floor["distance"]["delta1"] + 0.15
    assert (run / "plots" / "confusion-parts.png").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("trunk=mtan", "balancer=pcgrad", "balancer.level=parameters"),
        ("trunk=mmoe", "balancer=upgrad"),
        ("balancer=cagrad", "encoder.image.stride=1"),
    ],
)
def test_trunks_and_balancers_work_on_cells(
    options: tuple[str, ...], scenes: Path, tmp_path: Path
) -> None:
    summary = train(scenes, tmp_path / "run", *options, "trainer.max_steps=3")
    assert all(np.isfinite(summary["test"][task]["loss"]) for task in ("parts", "distance"))


def test_two_dense_tasks_meet_at_the_features(scenes: Path, tmp_path: Path) -> None:
    options = ("balancer=pcgrad", "balancer.level=features", "trainer.max_steps=2")
    assert train(scenes, tmp_path / "run", *options, "~data.tasks.ball")["test"].keys() == {
        "parts",
        "distance",
    }


def answers(run: Path, source: Path, output: Path, *more: str) -> list[dict[str, str]]:
    assert predict([f"checkpoint={run}", f"input={source}", f"output={output}", *more]) == 0
    with output.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_answers_are_pictures_beside_the_table(run: Path, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    picture, kind, depth = scene(1000)
    Image.fromarray(picture).resize((64, 48)).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"no picture")
    first, second = answers(run, folder, tmp_path / "out.csv")
    assert first["parts"] == "out-parts/000001.png" and second["parts"] == ""
    with Image.open(tmp_path / first["parts"]) as mask:
        assert (mask.mode, mask.size) == ("P", (64, 48))
        found = np.asarray(mask.resize((32, 32), Image.Resampling.NEAREST))
    assert (found == kind)[kind < 255].mean() > 0.7
    with Image.open(tmp_path / first["distance"]) as image:
        assert (image.mode, image.size) == ("I;16", (64, 48))
        metres = np.asarray(image.resize((32, 32), Image.Resampling.NEAREST)) / 1000
    assert abs(metres - depth)[depth > 0].mean() < 1.0
    assert not list(tmp_path.glob(".*"))
    again = [f"checkpoint={run}", f"input={folder}", f"output={tmp_path}/out.tsv"]
    assert predict(again) == 2
    assert "out-parts is there already" in capsys.readouterr().err
    assert predict([*again, "overwrite=true"]) == 0


def test_a_served_model_gives_pictures_as_base64(run: Path, tmp_path: Path) -> None:
    export_model(run / "checkpoints" / "best.ckpt", tmp_path / "model")
    model = ServedModel(Predictor.load(tmp_path / "model" / DATA_FOLDER / WEIGHTS))
    file = io.BytesIO()
    Image.fromarray(scene(1001)[0]).save(file, format="PNG")
    found = model.predict(pd.DataFrame({"image": [file.getvalue(), b""]}))
    mask = Image.open(io.BytesIO(base64.b64decode(found["parts"][0])))
    assert mask.size == (32, 32) and set(np.unique(np.asarray(mask))) <= {0, 1, 2}
    assert found["parts"][1] is None and found["distance"][1] is None


def batches(scenes: Path, folder: Path, **dataset: Any) -> Batch:
    data = spec(**{"path": str(scenes / "scenes.csv"), **dataset})
    data["image"] = {"size": [24, 24], "augment": "flip_crop"}
    part = loaded(folder, data).parts["train"]["scenes"]
    rows = np.arange(part.size)
    return part.augmented(rows, 0, rows * 0)


def write_as(source: str, scenes: Path, folder: Path) -> dict[str, Any]:
    """Copy the scenes and write their table in another format; return the source's options."""
    shutil.copytree(scenes, folder / "all", ignore=shutil.ignore_patterns("cache"))
    rows = pd.read_csv(folder / "all/scenes.csv").sort_values("photo", ignore_index=True)
    if source == "json":
        rows.to_json(folder / "all/rows.jsonl", orient="records", lines=True)
        return {"source": source, "path": str(folder / "all/rows.jsonl")}
    if source == "parquet":
        rows.to_parquet(folder / "all/rows.parquet")
        return {"source": source, "path": str(folder / "all/rows.parquet")}
    if source == "image_folder":
        rows = rows.rename(columns={"photo": "file_name"})
        rows.to_csv(folder / "all/metadata.csv", index=False)
        return {"source": source, "inputs": {"image": "image"}, "path": str(folder / "all")}
    rows.to_csv(folder / "all/rows.csv", index=False)
    return {"path": str(folder / "all/rows.csv"), "streaming": source == "streamed"}


@pytest.fixture(scope="module")
def plain(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Batch:
    """The rows as a table of plain files gives them."""
    folder = tmp_path_factory.mktemp("csv")
    return batches(scenes, folder, **write_as("csv", scenes, folder))


@pytest.mark.parametrize("source", ["json", "parquet", "image_folder", "streamed"])
def test_every_source_gives_the_same_rows(
    source: str, plain: Batch, scenes: Path, tmp_path: Path
) -> None:
    other = batches(scenes, tmp_path, **write_as(source, scenes, tmp_path))
    assert torch.equal(plain.inputs["image"], other.inputs["image"])
    for task in ("parts", "distance"):
        assert torch.equal(plain.present[task], other.present[task])
        assert torch.equal(plain.targets[task], other.targets[task])
    assert not plain.present["parts"].all()


def test_inspection_shows_pixels(scenes: Path, tmp_path: Path) -> None:
    data = spec(path=str(scenes / "scenes.csv"))
    data["tasks"]["parts"]["classes"] = ["<ground>", *CLASSES[1:]]
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(data))
    config = compose("inspect", [f"data={tmp_path}/data.yaml", "tracking=none"])
    found = inspect_data(config)
    facts = found.facts["scenes"].tasks
    masks = [scene(row)[1] for row in range(160) if row % 8 != 3]
    pixels = sum(facts["parts"].labels[s]["box"] for s in ("train", "valid", "test"))
    assert pixels == sum(int((mask == 1).sum()) for mask in masks)
    assert facts["parts"].labelled["train"] < found.facts["scenes"].rows["train"]
    assert facts["distance"].figures["distance"].endswith("/ 5")
    html = inspection_page("scenes", found, 4)
    assert "<small>parts</small>" in html and "&lt;ground&gt;" in html and "<ground>" not in html


def mask(*numbers: int, size: tuple[int, int] = (32, 32), kind: Any = np.uint8) -> Image.Image:
    return Image.fromarray(np.resize(np.array(numbers, kind), size))


def npy(path: Path, values: np.ndarray) -> str:
    np.save(path, values)
    return path.name


BAD = [
    ("mask", mask(0, 1, size=(20, 32)), "must have the picture's size, 32 x 32 pixels, got 32 x"),
    ("mask", mask(0, 7), r"class numbers must be 0 to 2, got 7 \(first at pixel x 1, y 0\); name"),
    ("mask", b"no picture", "the content is not an image; give PNG"),
    ("mask", np.zeros((32, 32), np.float32), "must hold whole class numbers, got float32 numbers"),
    ("mask", "a street", "there is no file .*a street"),
    ("mask", "../out.png", "the path must stay below .*, got ../out.png"),
    ("mask", mask(255), "has no labelled pixel, all are 255; leave the cell empty"),
    ("mask", Image.new("RGB", (32, 32)), "must have one number a pixel, got a picture of RGB"),
    ("depth", -np.ones((32, 32)), r"distances must be >= 0, got -1 \(first at pixel x 0, y 0\)"),
    ("depth", mask(0), "has no measurement, all are 0, NaN or inf; leave the cell empty"),
    ("depth", np.zeros((32, 32, 3)), r"must be numbers .height, width., got float64 .32, 32, 3."),
    ("depth", np.array([[{}]]), "must be an .npy of numbers"),
]


@pytest.mark.parametrize(("column", "content", "said"), BAD, ids=[b[2][:24] for b in BAD])
def test_bad_maps_are_named(
    column: str, content: Any, said: str, scenes: Path, tmp_path: Path
) -> None:
    rows = write_scenes(tmp_path, 12)
    cell = "bad.png"
    if isinstance(content, Image.Image):
        content.save(tmp_path / cell)
    elif isinstance(content, np.ndarray):
        cell = npy(tmp_path / "bad.npy", content)
    elif isinstance(content, bytes):
        (tmp_path / cell).write_bytes(content)
    else:
        cell = content
    rows[6][column] = cell
    (tmp_path / "scenes.csv").write_text(table(rows))
    with pytest.raises(PollinateError, match=f"line 8, column {column}: {said}"):
        loaded(tmp_path, spec(), "~data.tasks.ball")
    rest = loaded(tmp_path, spec(), "~data.tasks.ball", "data.on_bad_row=skip")
    assert sum(part["scenes"].size for part in rest.parts.values()) == 11


def test_wrong_use_is_said_in_words(scenes: Path, tmp_path: Path) -> None:
    data = spec(path=str(scenes / "scenes.csv"))
    with pytest.raises(UsageError, match=r"task \w+: .*can't move masks.*RandAugment"):
        loaded(tmp_path, data | {"image": {"size": [8, 8], "augment": "rand"}})
    texts = spec(path=str(scenes / "scenes.csv"), inputs={"text": "title"})
    with pytest.raises(PollinateError, match="masks and depths lie on pictures"):
        loaded(tmp_path, texts)
    data["tasks"]["parts"].pop("classes")
    module = loaded(tmp_path, data)
    assert module.tasks["parts"].classes == ["0", "1", "2"]
