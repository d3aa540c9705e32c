"""Every type of task and every modality is explained, from a checkpoint of one's own Trainer."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightning.pytorch import Trainer

import pollinate as po
from tests.extras import needs

pytestmark = needs("captum")
COUNT = 24


def frame() -> pd.DataFrame:
    draw = np.random.default_rng(0)
    side = np.arange(COUNT) % 2
    return pd.DataFrame(
        {
            "text": [f"{'good' if one else 'bad'} warm bread no {n}" for n, one in enumerate(side)],
            "image": [draw.integers(0, 255, (12, 12, 3), dtype=np.uint8) for _ in side],
            "audio": [(draw.normal(size=1600).astype(np.float32), 16000) for _ in side],
            "mood": np.where(side, "glad", "sad"),
            "topics": np.where(side, "food|price", "food"),
            "stars": side + 1,
            "price": side * 3.5 + draw.normal(size=COUNT),
            "tags": ["B-x O B-y O O" for _ in side],
        }
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> po.Model:
    columns = ["text", "image", "audio"]
    split = {"train": 0.5, "valid": 0.25, "test": 0.25}
    rows = po.Dataset(frame(), inputs={name: name for name in columns}, split=split)
    words = po.Dataset(frame(), inputs={"text": "text"}, split=split)
    tasks = {
        "mood": po.tasks.Classification("rows", "mood"),
        "topics": po.tasks.Multilabel("rows", "topics"),
        "stars": po.tasks.Ordinal("rows", "stars"),
        "price": po.tasks.Regression("rows", "price"),
        "pairs": po.tasks.Retrieval("rows", width=4),
        "tags": po.tasks.Tagging("words", "tags", transitions=True),
    }
    modalities: Any = {
        "text": {"vocab_size": 300, "max_length": 12, "words": True},
        "image": {"size": [12, 12]},
        "audio": {"mels": 16},
    }
    data = po.MixedDataModule({"rows": rows, "words": words}, tasks, modalities=modalities)
    encoders = {
        "text": po.encoders.GRU(width=8, hidden=8),
        "image": po.encoders.CNN(width=16, stages=2),
        "audio": po.encoders.Spectrogram(width=8, depth=1),
    }
    module = po.MultiTaskModule(
        data, encoders=encoders, trunk=po.trunks.CrossStitch(), fusion=po.fusions.Gated(), dim=8
    )
    trainer = Trainer(
        max_steps=1, accelerator="cpu", logger=False, log_every_n_steps=1,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        limit_val_batches=0,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("types") / "own.ckpt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, data)
    trainer.save_checkpoint(path)
    return po.load(path)


@pytest.fixture(scope="module")
def why(model: po.Model) -> po.Explanations:
    rows = frame().head(2).assign(audio=frame().audio)
    rows.loc[1, "image"] = None
    return model.explain(rows, checks=1, examples=2, steps=8, quiet=True)


def test_every_type_is_explained_by_every_input_that_it_reads(why: po.Explanations) -> None:
    found = why.answers.set_index(["task", "row"])
    assert set(why.answers.task) == {"mood", "topics", "stars", "price", "pairs", "tags"}
    assert ("pairs", 1) not in found.index, "a row without a picture has no pair"
    assert {"audio", "image", "text"} <= set(found.columns)
    tasks = why.as_dict()["tasks"]
    parts = {name: set(own["answers"][0]["parts"]) for name, own in tasks.items()}
    assert parts["mood"] == {"audio", "image", "text"}
    assert parts["tags"] == {"text"}
    assert why.map("mood", 0).shape == (12, 12)
    assert why.map("mood", 0, "audio").shape[1] == 16


def test_shapley_values_of_inputs_add_up(model: po.Model, why: po.Explanations) -> None:
    own = why.answers.set_index(["task", "row"]).loc[("price", 0)]
    whole = model.predict(frame().head(1), tasks=["price"]).price[0]
    assert own.score == pytest.approx(whole, rel=1e-4)
    values = own[["audio", "image", "text"]].astype(float)
    assert values.notna().all()
    lacking = why.answers.set_index(["task", "row"]).loc[("price", 1)]
    assert np.isnan(lacking.image)


def test_words_of_tags_are_explained_by_number(model: po.Model) -> None:
    rows = {"text": ["good warm bread no 1", "one"]}
    found = model.explain(rows, ["tags"], answers={"tags": 3}, checks=0, examples=0, quiet=True)
    assert found.answers.row.tolist() == [0]
    assert found.answers.answer[0].startswith("word 3: ")


def test_what_tasks_take_from_each_other_is_said(why: po.Explanations) -> None:
    gates = why.as_dict()["tasks"]["mood"]["takes"]["gate"]
    assert set(gates) == {"mood", "topics", "stars", "price", "pairs", "tags"}
    assert gates["mood"] == pytest.approx(0.9, abs=0.05)


def test_a_checkpoint_of_ones_own_knows_no_data(why: po.Explanations) -> None:
    assert any(note.startswith("no training rows are shown: ") for note in why.as_dict()["notes"])


def test_the_page_shows_pictures_and_sounds(why: po.Explanations, tmp_path: Path) -> None:
    page = why.save(tmp_path).read_text(encoding="utf-8")
    assert 'alt="image as the model sees it"' in page
    assert 'alt="audio as the model sees it"' in page
