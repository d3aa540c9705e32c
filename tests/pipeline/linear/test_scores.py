"""What linear models reach, on data whose answers are known."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pollinate as po
from datamodules.cache import Cache
from lightning_modules.descriptors import picture_descriptors, sound_descriptors
from pipeline.build import build_datamodule
from pipeline.configuration.composition import compose
from pipeline.linear import scores as module
from pipeline.linear.descriptors import Standardised
from pipeline.linear.scores import LinearScores, RowMatrices, fit_task, linear_scores
from tests.small_shop import reviews

DATA = Path(__file__).parents[2] / "data"


def linear(data: po.MixedDataModule) -> LinearScores:
    """Of a data module that is set up, computed anew."""
    with TemporaryDirectory() as folder:
        return linear_scores(data, Cache(Path(folder)))


def fitted(frame: pd.DataFrame, tasks: dict[str, Any], **more: Any) -> LinearScores:
    split = {"train": 0.6, "valid": 0.2, "test": 0.2}
    shop = po.Dataset(frame, inputs={"text": "review"}, split=split)
    data = po.MixedDataModule({"shop": shop}, tasks, **more)
    data.setup()
    return linear(data)


def test_words_that_say_all_are_found() -> None:
    frame = reviews()
    frame["topics"] = [
        "|".join(word for word in ("bread", "tea", "pie") if word in text) or "none"
        for text in frame.review
    ]
    frame["place"] = (frame.stars // 1).astype(int)
    frame["tags"] = [
        " ".join("B-food" if word in ("bread", "pie") else "O" for word in text.split())
        for text in frame.review
    ]
    found = fitted(
        frame,
        {
            "mood": po.tasks.Classification(target="mood"),
            "stars": po.tasks.Regression(target="stars"),
            "topics": po.tasks.Multilabel(target="topics", none="none"),
            "place": po.tasks.Ordinal(target="place"),
            "words": po.tasks.Tagging(target="tags"),
        },
    )
    test = found.scores["test"]
    assert not found.reasons
    assert test["mood"]["accuracy"] == test["mood"]["auroc"] == 1.0
    assert test["stars"]["r2"] > 0.9
    assert test["topics"]["f1"] > 0.95 and test["topics"]["map"] > 0.99
    assert test["place"]["kappa"] > 0.9
    assert test["words"] == {"f1": 1.0, "accuracy": 1.0}


def test_several_labels_are_told_apart_though_each_row_has_one() -> None:
    frame = reviews()
    found = fitted(frame, {"mood": po.tasks.Multilabel(target="mood")})
    assert found.scores["test"]["mood"]["exact"] == 1.0


def test_labels_that_nothing_tells_are_not_found() -> None:
    frame = reviews(600)
    frame["coin"] = np.random.default_rng(0).integers(0, 2, len(frame))
    test = fitted(frame, {"coin": po.tasks.Classification(target="coin")}).scores["test"]
    assert 0.35 < test["coin"]["accuracy"] < 0.65


def test_only_labels_that_the_run_may_see_are_learnt_from() -> None:
    frame = reviews(400)
    some = fitted(frame, {"mood": po.tasks.Classification(target="mood")}, label_fraction=0.02)
    assert some.scores["test"]["mood"]["accuracy"] < 1.0


def test_every_type_of_task_has_scores_or_a_reason() -> None:
    data = build_datamodule(compose("fit", [f"data={DATA}/tasks.yaml"]))
    data.setup()
    found = linear(data)
    assert found.reasons.keys() == {"pairs", "parts", "distance"}
    assert set(found.reasons.values()) == {"a linear model gives no answers of this kind"}
    kept = {task: spec for task, spec in data.tasks.items() if task not in found.reasons}
    for split in ("valid", "test"):
        assert found.scores[split].keys() == kept.keys()
        assert all(spec.score in found.scores[split][task] for task, spec in kept.items())


def test_streamed_rows_are_a_reason() -> None:
    given = [f"data={DATA}/tasks.yaml", "data.datasets.shop.streaming=true"]
    data = build_datamodule(compose("fit", given))
    data.setup()
    assert set(linear(data).reasons) == set(data.tasks)


@pytest.mark.parametrize("name", ["audio_folder", "image_folder", "npz"])
def test_pictures_and_sounds(name: str) -> None:
    data = build_datamodule(compose("fit", [f"data={DATA}/{name}.yaml"]))
    data.setup()
    found = linear(data)
    assert not found.reasons
    assert found.scores["test"].keys() == data.tasks.keys()


@pytest.mark.parametrize("limit", ["MOST_WORK", "MOST_LABELS"])
def test_too_many_classes_are_a_reason(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, limit, 100)
    found = fitted(reviews(), {"mood": po.tasks.Classification(target="mood")})
    assert found.reasons == {"mood": "2 classes of 144 rows take a linear model too long"}


def test_few_rows_are_learnt_from_where_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 40)
    found = fitted(reviews(), {"mood": po.tasks.Classification(target="mood")})
    assert found.scores["test"]["mood"]["accuracy"] > 0.9


def test_scores_are_kept_until_rows_or_labels_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, fits = Cache(tmp_path), []

    def counted(task: str, data: po.MixedDataModule, rows: RowMatrices) -> dict[str, Any]:
        fits.append(task)
        return fit_task(task, data, rows)

    monkeypatch.setattr(module, "fit_task", counted)
    frame = reviews().assign(other=reviews().mood)

    def found(label_fraction: float = 1.0, **targets: str) -> LinearScores:
        split = {"train": 0.6, "valid": 0.2, "test": 0.2}
        shop = po.Dataset(frame, inputs={"text": "review"}, split=split)
        tasks = {name: po.tasks.Classification(target=target) for name, target in targets.items()}
        data = po.MixedDataModule({"shop": shop}, tasks, label_fraction=label_fraction)
        data.setup()
        return linear_scores(data, cache)

    assert found(mood="mood") == found(mood="mood")
    assert fits == ["mood"]
    both = found(mood="mood", other="other")  # a run of more tasks
    assert fits == ["mood", "other"] and both.scores["test"].keys() == {"mood", "other"}
    found(label_fraction=0.5, mood="mood")
    assert fits == ["mood", "other", "mood"]


def test_pictures_are_told_by_edges_and_colours() -> None:
    upright = torch.zeros(1, 3, 24, 24)
    upright[..., ::6] = 255
    found = picture_descriptors(torch.cat([upright, upright.mT])).numpy()
    assert found.shape == (2, 9 * 64 + 3 * 64)
    assert np.isfinite(found).all() and not np.allclose(found[0], found[1], atol=0.1)
    assert not picture_descriptors(torch.full((1, 1, 8, 8), 7.0))[0, : 9 * 64].any()


def test_sounds_of_any_length_have_as_many_numbers() -> None:
    frames = torch.randn(3, 9, 5)
    frames[1, 1:] = torch.nan
    frames[2] = torch.nan
    found = sound_descriptors(frames).numpy()
    assert found.shape == (3, 30) and np.isfinite(found).all()
    assert np.allclose(found[0, :5], frames[0].mean(0), atol=1e-6)


def test_rows_without_a_value_are_0_and_a_constant_column_too() -> None:
    values = np.array([[1.0, 5.0], [3.0, 5.0], [9.0, 5.0]])
    even = Standardised().fit(values[:2])
    found = even(values, np.array([True, True, False]))
    assert np.allclose(found, [[-(0.5**0.5), 0], [0.5**0.5, 0], [0, 0]])


def test_a_value_beyond_those_of_training_counts_as_the_nearest() -> None:
    values = np.array([[0.0, 1.0], [1e-4, 3.0]])
    even = Standardised().fit(values)
    found = even(np.array([[1e6, 2.0], [-1e6, 9.0]]), np.array([True, True]))
    assert np.allclose(found, [[0.5**0.5, 0], [-(0.5**0.5), 0.5**0.5]])
