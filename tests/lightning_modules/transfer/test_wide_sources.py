"""A wide path at a source, and at a run that learns from one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pollinate as po
from lightning_modules.source_models import SourceModel
from lightning_modules.transfer.frozen_model import FrozenModel
from lightning_modules.transfer.teacher_outputs import OnlineTeacher, can_run_online
from tests.lightning_modules.transfer.helpers import NamedSourceOpener, source_of
from tests.small_shop import reviews

Run = tuple[po.MixedDataModule, po.MultiTaskModule]


def run_on(frame: pd.DataFrame, tokenizer: str | None = None, wide: bool = True) -> Run:
    options = {"wide": wide, "tokenizer": tokenizer, "vocab_size": 300, "max_length": 16}
    split = {"train": 0.6, "valid": 0.2, "test": 0.2}
    data = po.MixedDataModule(
        {"reviews": po.Dataset(frame, inputs={"text": "review"}, split=split)},
        tasks={
            "mood": po.tasks.Classification("reviews", target="mood", classes=["angry", "glad"]),
            "stars": po.tasks.Regression("reviews", target="stars"),
        },
        modalities={"text": options},
    )
    return data, po.MultiTaskModule(data, encoders={"text": po.encoders.Bag(width=8)}, dim=8)


@pytest.fixture(scope="module")
def teacher() -> Run:
    return run_on(reviews(120))


@pytest.fixture(scope="module")
def source(teacher: Run) -> SourceModel:
    data, model = teacher
    return source_of(model, data)


def tokenizer_of(run: Run) -> str:
    text: Any = run[0].modalities["text"]
    found: str = text.tokenizer.to_json()
    return found


def table(model: po.MultiTaskModule, task: str) -> torch.Tensor:
    return model.network.wide_path(task).table


@pytest.fixture
def student(teacher: Run) -> Run:
    """Its rows have too few labels of mood for a wide path."""
    frame = reviews(120, seed=1)
    frame["mood"] = frame["mood"].where(np.arange(120) < 12)
    return run_on(frame, tokenizer_of(teacher))


def test_a_task_without_rows_takes_the_path_over_with_its_head(
    teacher: Run, source: SourceModel, student: Run
) -> None:
    data, model = student
    fitted = table(model, "stars").clone()
    said = po.transfer.Init("a").setup(model, data, NamedSourceOpener(a=source))

    assert torch.equal(table(model, "mood"), table(teacher[1], "mood"))
    assert torch.equal(table(model, "stars"), fitted)  # it was fitted to this run's rows
    assert "wide.mood" in said[0]
    assert "not used: 5 tensors of wide.stars" in said[1]
    batch = data.parts["train"]["reviews"].batch(np.arange(4))
    own, theirs = model.network, teacher[1].network
    assert torch.equal(own.wide_path("mood")([batch]), theirs.wide_path("mood")([batch]))


def test_a_head_that_stays_keeps_its_task_without_a_path(source: SourceModel, student: Run) -> None:
    data, model = student
    method = po.transfer.Init("a", parts=["encoders.text", "trunk"])
    method.setup(model, data, NamedSourceOpener(a=source))

    assert not model.network.wide_path("mood").fitted


def test_a_teacher_reads_terms_where_the_student_has_columns(source: SourceModel) -> None:
    frame = reviews(120)  # the teacher's rows
    network = source.predictor().network.eval()
    data, _ = run_on(frame)
    part = data.parts["train"]["reviews"]
    one = OnlineTeacher(FrozenModel(source), "reviews", ["text"], ["mood"])
    part.gives_terms = True
    batch = part.batch(np.arange(6))
    assert "mood" in batch.held_out

    found, has = one.rows("mood", batch)
    test = data.parts["test"]["reviews"].batch(np.arange(2))  # of no columns
    batch.held_out = {}
    with torch.no_grad():
        assert torch.equal(found, network({"reviews": batch})["mood"])
        assert not test.held_out
    assert has.all()


def test_answers_need_terms_and_features_dont(teacher: Run, source: SourceModel) -> None:
    data, _ = run_on(reviews(120), tokenizer_of(teacher), wide=False)
    predictor, here = source.predictor(), data.modalities

    assert not can_run_online(predictor, ["mood"], ["text"], here)
    assert can_run_online(predictor, ["mood"], ["text"], teacher[0].modalities)
    batch = data.parts["train"]["reviews"].batch(np.arange(3))
    found = FrozenModel(source).representations({"reviews": batch}, {"mood": ("reviews",)})
    assert found["mood"].shape == (3, 8)


def test_a_wide_student_learns_from_a_plain_teacher_in_every_step(teacher: Run) -> None:
    data, model = run_on(reviews(120), tokenizer_of(teacher), wide=False)

    assert can_run_online(
        source_of(model, data).predictor(), ["mood"], ["text"], teacher[0].modalities
    )
