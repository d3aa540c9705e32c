"""A run with models of other libraries: its checkpoints need nothing of where these came from."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from datamodules.modalities.image import ImageModality
from lightning_modules.building import build_modalities, build_tasks
from lightning_modules.checkpoints import read_checkpoint, read_spec
from pipeline.evaluate import main as evaluate
from pipeline.predict import main as predict
from pipeline.serving.model_folder import DATA_FOLDER, REQUIREMENTS, export_model
from pipeline.serving.pyfunc import _load_pyfunc
from tests.extras import needs
from tests.pretrained_runs import SHOP, pretrained, train

pytestmark = needs("transformers", "timm", "peft")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on titles and photos with every type of task, whose model is gone now."""
    root = tmp_path_factory.mktemp("pretrained")
    arguments = [
        *pretrained(root),
        "encoder.text.tune={name: dora, rank: 2}",
        "encoder.image.tune={name: gradual, every: 1, first: 0}",
        "balancer.level=parameters",
        "sampler.steps_per_epoch=3",
    ]
    train(*arguments, "trainer.max_steps=4", f"run_dir={root}/whole")
    train(*arguments, "trainer.max_steps=2", f"run_dir={root}/run")
    shutil.rmtree(root / "model")
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
    export_model(run / "checkpoints/best.ckpt", tmp_path)
    answers = _load_pyfunc(str(tmp_path / DATA_FOLDER)).predict(
        pd.DataFrame({"text": ["big cup", "pen"]})
    )
    assert answers["error"].tolist() == ["", ""]
    required = (tmp_path / REQUIREMENTS).read_text()
    assert "timm==" in required
    assert "transformers==" in required
    assert "peft==" in required


def test_resume_is_exact_while_blocks_are_unfrozen(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / "run"
    shutil.copytree(run, whole)
    train(f"resume={whole}", "trainer.max_steps=4")
    (greeting,) = re.findall(r"([\d,]+) of ([\d,]+) weights", capsys.readouterr().out)
    trained, total = (int(number.replace(",", "")) for number in greeting)
    assert 0 < trained < total
    expected, found = (
        read_checkpoint(folder / "checkpoints/last.ckpt")["state_dict"]
        for folder in (run.parent / "whole", whole)
    )
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_pictures_have_the_size_that_the_network_knows(run: Path) -> None:
    spec = read_spec(run / "checkpoints/last.ckpt")
    config = {**spec["config"], "allow_targets": []}
    for size, expected in ((None, (160, 160)), ([24, 32], (24, 32))):
        config["data"]["image"]["size"] = size
        image = build_modalities(config, build_tasks(config), spec["learnt"])["image"]
        assert isinstance(image, ImageModality)
        assert image.size == expected
