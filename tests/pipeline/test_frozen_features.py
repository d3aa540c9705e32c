"""Features of frozen encoders: kept once, read afterwards, and the same as without keeping."""

from __future__ import annotations

import json
import math
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from lightning_modules.checkpoints import read_checkpoint
from lightning_modules.encoders.timm_image import TimmImage
from lightning_modules.encoders.transformers_text import TransformersText
from pipeline.evaluate import main as evaluate
from pipeline.predict import main as predict
from pipeline.run_folder import RunFolder
from pipeline.tracking.journals import read_points
from tests.extras import needs
from tests.lean_fit import fit
from tests.models import bert, with_weights

pytestmark = needs("transformers", "timm")

SHOP = Path(__file__).parents[1] / "data"
FOLDERS = 2  # of features: one of texts, one of pictures
Numbers = dict[tuple[str, int], float | None]


def train(*arguments: str, code: int = 0) -> None:
    assert fit(arguments) == code


def numbers(folder: Path) -> Numbers:
    """Losses and scores of a run by name and step."""
    points = read_points(RunFolder(folder).metrics)
    return {
        (point.key, point.step): None if math.isnan(point.value) else point.value
        for point in points
        if point.key.startswith(("train/", "valid/", "test/")) and "per_second" not in point.key
    }


def close(one: float | None, other: float | None) -> bool:
    """Say whether two values are equal but for rounding, or neither is defined."""
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-5)


def entries(cache: Path) -> set[Path]:
    return {path for path in (cache / "features").iterdir() if path.is_dir()}


def forbidden(*_: object) -> None:
    raise AssertionError("a backbone was called")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data file, on which some rows lack a photo, and a model."""
    root = tmp_path_factory.mktemp("kept")
    with_weights(bert(root / "model"))
    spec = yaml.safe_load((SHOP / "tasks.yaml").read_text(encoding="utf-8"))
    lines = (SHOP / "shop.csv").read_text(encoding="utf-8").splitlines()
    cells = [line.split(",") for line in lines]
    for line in cells[1::7]:
        line[1] = line[9] = line[10] = ""  # no photo, nor what lies on it
    (root / "shop.csv").write_text("\n".join(map(",".join, cells)) + "\n", encoding="utf-8")
    for folder in ("photos", "maps"):
        shutil.copytree(SHOP / folder, root / folder)
    spec["image"] = {"size": [32, 32], "shift": 0.0, "rotate": 0.0, "scale": 0.0}
    (root / "data.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    return root


def options(root: Path, name: str) -> list[str]:
    return [
        f"data={root}/data.yaml",
        f"data.cache={root}/cache",
        f"run_dir={root}/{name}",
        "tracking=none",
        "dim=8",
        "encoder/text=transformers",
        f"encoder.text.model={root}/model",
        "encoder/image=timm",
        "encoder.image.model=test_resnet",
        "encoder.image.weights=false",
        "encoder.text.tune=frozen",
        "encoder.image.tune=frozen",
        "schedule=constant",
        "sampler.batch_size=8",
        "sampler.steps_per_epoch=3",
        "trainer.max_epochs=2",
        "trainer.log_every_n_steps=1",
        "gradients.every_n_steps=2",
    ]


@pytest.fixture(scope="module")
def first(root: Path) -> Path:
    """The run that computes the features."""
    train(*options(root, "first"))
    return root / "first"


@pytest.fixture
def unreachable(first: Path) -> Iterator[None]:
    """No backbone may be called."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransformersText, "backbone", forbidden)
        patch.setattr(TimmImage, "backbone", forbidden)
        yield


@pytest.mark.usefixtures("unreachable")
def test_a_later_run_computes_nothing_and_is_the_same(root: Path, first: Path) -> None:
    assert len(entries(root / "cache")) == FOLDERS
    train(*options(root, "second"))
    assert numbers(root / "second") == numbers(first)


def test_without_keeping_the_numbers_are_the_same(root: Path, first: Path) -> None:
    off = [f"encoder.{name}.tune.cache=false" for name in ("text", "image")]
    train(*options(root, "without"), *off)
    expected, found = numbers(root / "without"), numbers(first)
    assert expected.keys() == found.keys()
    assert len(found) > 20
    for key, value in found.items():
        assert close(value, expected[key]), key


@pytest.mark.usefixtures("unreachable")
def test_evaluating_reads_what_was_kept(first: Path) -> None:
    assert evaluate([f"checkpoint={first}/checkpoints/best.ckpt", "split=test"]) == 0
    summary = json.loads((first / "summary.json").read_text())
    assert json.loads((first / "evaluation-test.json").read_text())["scores"] == summary["test"]


@pytest.mark.usefixtures("unreachable")
def test_resume_reads_what_was_kept_and_is_exact(root: Path, first: Path) -> None:
    half = options(root, "half")
    train(*half, "trainer.max_steps=4")
    train(f"resume={root}/half", "trainer.max_steps=6")
    expected, found = (
        read_checkpoint(folder / "checkpoints/last.ckpt")["state_dict"]
        for folder in (first, root / "half")
    )
    assert any("network.encoders.text.network" in name for name in found)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_predicting_needs_nothing_that_was_kept(root: Path, first: Path, tmp_path: Path) -> None:
    arguments = [f"checkpoint={first}/checkpoints/best.ckpt", f"input={root}/shop.csv"]
    assert predict([*arguments, f"output={tmp_path}/out.csv"]) == 0
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 25


def test_a_damaged_or_missing_file_is_made_again(root: Path, first: Path) -> None:
    before = {path: path.read_bytes() for e in entries(root / "cache") for path in e.glob("*.flat")}
    torn, gone, *_ = before
    torn.write_bytes(torn.read_bytes()[:-5] + b"12345")
    gone.unlink()
    train(*options(root, "mended"))
    assert all(path.read_bytes() == content for path, content in before.items())
    assert numbers(root / "mended") == numbers(first)


@pytest.fixture
def one_step(first: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is kept, and what is said of it, is known before the first step."""
    for name in ("evaluate", "record_end"):
        monkeypatch.setattr(f"pipeline.training_run.{name}", lambda *_: None)
    return ["trainer.max_steps=1"]


def test_what_features_depend_on_makes_a_new_entry(root: Path, one_step: list[str]) -> None:
    data = root / "other"
    data.mkdir()
    for folder in ("photos", "maps"):
        shutil.copytree(root / folder, data / folder)
    shutil.copy(root / "data.yaml", data)
    (data / "shop.csv").write_text((root / "shop.csv").read_text().replace("big hat", "big cap"))
    with_weights(bert(root / "weights"), seed=7)
    for change, made in (
        ("data.text.max_length=6", 1),
        (f"encoder.text.model={root}/weights", 1),
        (f"data={data}/data.yaml", FOLDERS),
        ("dim=16", 0),  # the projection is no part of what is kept
    ):
        known = entries(root / "cache")
        train(*options(root, f"change {change.partition('=')[0]}"), change, *one_step)
        assert len(entries(root / "cache") - known) == made, change


def test_why_features_are_not_kept_is_said(
    root: Path, tmp_path: Path, one_step: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = [option for option in options(root, "") if not option.startswith("run_dir")]
    more = ["data.image.shift=1.5", "data.datasets.shop.streaming=true", *one_step]
    train(*given, *more, f"run_dir={tmp_path}/run")
    said, note = capsys.readouterr().out, "note: features of {} are computed in every step: "
    assert f"{note.format('image')}in training data.image.shift=1.5 changes rows at random" in said
    assert f"{note.format('text')}the rows of shop are streamed" in said
    assert "augmentation: training rows change at random by data.image.shift=1.5" in said


def test_a_full_disk_is_named(
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10, 0, 100))
    given = [*options(root, "full"), f"data.cache={tmp_path}"]
    train(*given, code=1)
    error = capsys.readouterr().err
    assert "GB left; choose another place with data.cache=PATH" in error
    assert "tune.cache=false" in error
    assert not entries(tmp_path)
