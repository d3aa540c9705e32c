"""A run with models of other libraries: its checkpoints need nothing of where these came from."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from datamodules.modalities.image import ImageModality
from pipeline.build import build_modalities, build_tasks
from pipeline.evaluate import main as evaluate
from pipeline.fit import main as fit
from pipeline.predict import main as predict
from pipeline.resume import read_spec
from pipeline.serving.folder import DATA, REQUIREMENTS, export
from pipeline.serving.pyfunc import _load_pyfunc
from tests.models import bert, with_weights

pytest.importorskip("transformers", reason="needs the extra encoders")
pytest.importorskip("timm", reason="needs the extra encoders")

SHOP = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on titles and photos with every type of task, whose model is gone now."""
    root = tmp_path_factory.mktemp("pretrained")
    model = with_weights(bert(root / "model"))
    spec = yaml.safe_load((SHOP / "tasks.yaml").read_text(encoding="utf-8"))
    spec["datasets"]["shop"]["path"] = str(SHOP / "shop.csv")
    spec["image"] = {"size": [32, 32]}
    (root / "data.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    arguments = [
        f"data={root}/data.yaml",
        "tracking=none",
        "dim=8",
        "encoder/text=transformers",
        f"encoder.text.model={model}",
        "encoder/image=timm",
        "encoder.image.model=test_resnet",
        "encoder.image.weights=false",
        f"run_dir={root}/run",
    ]
    assert fit([*arguments, "trainer.max_steps=2"]) == 0
    shutil.rmtree(model)
    return root / "run"


def test_evaluate(run: Path) -> None:
    assert evaluate([f"checkpoint={run}/checkpoints/best.ckpt", "split=test"]) == 0
    summary = json.loads((run / "summary.json").read_text())
    found = json.loads((run / "evaluation-test.json").read_text())
    assert found["scores"] == summary["test"]


def test_predict(run: Path, tmp_path: Path) -> None:
    arguments = [f"input={SHOP}/shop.csv", f"output={tmp_path}/out.csv"]
    assert predict([f"checkpoint={run}/checkpoints/best.ckpt", *arguments]) == 0
    with (tmp_path / "out.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert not any(row["error"] for row in rows)


def test_serve(run: Path, tmp_path: Path) -> None:
    export(run / "checkpoints/best.ckpt", tmp_path)
    answers = _load_pyfunc(str(tmp_path / DATA)).predict(pd.DataFrame({"text": ["big cup", "pen"]}))
    assert answers["error"].tolist() == ["", ""]
    required = (tmp_path / REQUIREMENTS).read_text()
    assert "timm==" in required
    assert "transformers==" in required


def test_resume(run: Path, tmp_path: Path) -> None:
    whole = tmp_path / "run"
    shutil.copytree(run, whole)
    assert fit([f"resume={whole}", "trainer.max_steps=3"]) == 0
    assert json.loads((whole / "summary.json").read_text())["steps"] == 3


def test_pictures_have_the_size_that_the_network_knows(run: Path) -> None:
    spec = read_spec(run / "checkpoints/last.ckpt")
    config = {**spec["config"], "allow_targets": []}
    for size, expected in ((None, (160, 160)), ([24, 32], (24, 32))):
        config["data"]["image"]["size"] = size
        image = build_modalities(config, build_tasks(config), spec["learnt"])["image"]
        assert isinstance(image, ImageModality)
        assert image.size == expected
