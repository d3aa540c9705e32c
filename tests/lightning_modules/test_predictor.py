import copy
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_modules.checkpoints import read_checkpoint, write_checkpoint
from lightning_modules.predictor import Predictor
from pipeline.build import build_datamodule, build_module
from pollinate.errors import PollinateError


@pytest.fixture(scope="module")
def checkpoint(tiny_run: Path) -> Path:
    return tiny_run / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="module")
def predictor(checkpoint: Path) -> Predictor:
    return Predictor.load(checkpoint)


def png(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (30, 20, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def likeliest(found: list[Any]) -> list[Any]:
    return [None if answer is None else answer["label"] for answer in found]


def test_answers_as_the_trained_module_does(checkpoint: Path, predictor: Predictor) -> None:
    """Oracle: the module and the data of training."""
    saved = read_checkpoint(checkpoint)
    spec = saved["pollinate"]
    data = build_datamodule({**spec["config"], "allow_targets": []}, spec["learnt"])
    data.setup()
    module = build_module({**spec["config"], "allow_targets": []}, data).eval()
    module.load_state_dict(saved["state_dict"])
    modality = {"digit": "image", "sentiment": "text", "subject": "text"}
    for task, dataset in {"digit": "mnist", "sentiment": "reviews", "subject": "courses"}.items():
        spec = data.datasets[dataset]
        raw = list(data.loaded[dataset].input(modality[task], "test"))
        batch = data.parts["test"][dataset].batch(np.arange(len(raw)))
        with torch.inference_mode():
            output = module.network({dataset: batch}, [task])[task]
            calibrated = predictor.trust.tasks[task].calibrated(output)
            expected = data.tasks[task].decode(calibrated)
        found = predictor.predict({modality[task]: raw}, [task]).answers[task]
        assert likeliest(found) == likeliest(expected)
        for answer, other in zip(found, expected, strict=True):
            assert answer is not None
            assert answer["probability"] == pytest.approx(other["probability"], abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_batches_and_order_change_nothing(predictor: Predictor, batch_size: int) -> None:
    texts = ["a " * n for n in (9, 2, 30, 1, 5)]
    found = predictor.predict({"text": texts}, ["subject"], batch_size).answers["subject"]
    alone = [
        predictor.predict({"text": [text]}, ["subject"]).answers["subject"][0] for text in texts
    ]
    for answer, other in zip(found, alone, strict=True):
        assert answer is not None and other is not None
        assert answer["probability"] == pytest.approx(other["probability"], abs=1e-5)


def test_a_row_is_answered_by_what_it_has(predictor: Predictor) -> None:
    found = predictor.predict(
        {"text": ["good", None, "x", None], "image": [png(), png(), None, None]}
    )
    present = {t: [a is not None for a in answers] for t, answers in found.answers.items()}
    assert present["sentiment"] == present["subject"] == [True, False, True, False]
    assert present["digit"] == present["optdigit"] == [True, True, False, False]
    assert not found.errors


def test_a_bad_row_loses_no_other(predictor: Predictor, tmp_path: Path) -> None:
    good = np.zeros((28, 28), np.uint8)
    images = [good, b"nonsense", tmp_path / "none.png", png()[:200], png()]
    found = predictor.predict({"image": images, "text": ["a"] * 5}, ["digit", "subject"])
    assert [a is not None for a in found.answers["digit"]] == [True, False, False, False, True]
    assert all(found.answers["subject"])
    assert sorted(found.errors) == [1, 2, 3]
    assert found.errors[1] == "image: the content is not an image; give PNG, JPEG or similar"
    assert found.errors[2] == f"image: there is no file {tmp_path / 'none.png'}"
    assert "truncated" in found.errors[3]


@pytest.mark.parametrize("side", [10_000, 14_000])  # Pillow warns of one, refuses the other
def test_decompression_bomb_is_an_error_of_its_row(predictor: Predictor, side: int) -> None:
    buffer = io.BytesIO()
    Image.new("1", (side, side)).save(buffer, "PNG")
    found = predictor.predict({"image": [buffer.getvalue(), png()]}, ["digit"])
    assert list(found.errors) == [0]
    assert "images must have <= 89,478,485 pixels" in found.errors[0]
    assert found.answers["digit"][1] is not None


def test_no_rows(predictor: Predictor) -> None:
    assert predictor.predict({"text": []}, ["subject"]).answers == {"subject": []}


@pytest.mark.parametrize(
    ("columns", "tasks", "message"),
    [
        ({"text": ["a"]}, ["sentimnt"], "no task 'sentimnt'; did you mean sentiment?"),
        ({"audio": ["a"]}, None, "doesn't take 'audio'"),
        ({"text": ["a"], "image": []}, None, "one length, got {'text': 1, 'image': 0}"),
    ],
)
def test_wrong_arguments(predictor: Predictor, columns: Any, tasks: Any, message: str) -> None:
    with pytest.raises(PollinateError) as caught:
        predictor.predict(columns, tasks)
    assert message in str(caught.value)


def altered(checkpoint: Path, folder: Path, change: Any) -> Path:
    saved = copy.deepcopy(read_checkpoint(checkpoint))
    change(saved)
    write_checkpoint(saved, folder / "altered.ckpt")
    return folder / "altered.ckpt"


@pytest.mark.parametrize("target", ["os.system", "torch.load", "stranger.Bag", "pipeline.fit.main"])
def test_foreign_classes_are_refused(checkpoint: Path, tmp_path: Path, target: str) -> None:
    def change(saved: Any) -> None:
        config = saved["pollinate"]["config"]
        config["encoder"]["text"]["_target_"] = target
        config["allow_targets"] = ["os", "torch", "stranger", "pipeline"]  # its word doesn't count

    with pytest.raises(PollinateError, match=f"encoder.text._target_ '{target}' is refused"):
        Predictor.load(altered(checkpoint, tmp_path, change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda saved: saved.pop("pollinate"), "was not written by pipeline.fit"),
        (lambda saved: saved["pollinate"].update(format=99), "has format 99, this version reads 1"),
        (lambda saved: saved["pollinate"]["config"].update(dim=9), "don't fit"),
        (lambda saved: saved.pop("state_dict"), "holds no state_dict"),
    ],
)
def test_other_checkpoints(checkpoint: Path, tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(PollinateError, match=message):
        Predictor.load(altered(checkpoint, tmp_path, change))


def test_torn_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.ckpt"
    torn.write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.raises(PollinateError, match="is torn or changed"):
        Predictor.load(torn)
