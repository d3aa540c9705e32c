"""What a source's name means, and what a source makes of rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lightning_modules.transferability.base import Absent
from pipeline.build import build_datamodule
from pipeline.merge import main as merge
from pipeline.ranking.candidates import (
    ENCODER_GROUP,
    CheckpointSource,
    EncoderSource,
    find_source,
    find_sources,
    model_folder,
)
from pipeline.ranking.scoring import rank_sources, require_fit
from pipeline.ranking.target_sample import sample_target
from pollinate.errors import PollinateError, UsageError
from pollinate.instantiate import instantiate
from tests.lean_fit import fit
from tests.merged_runs import uncalibrated
from tests.models import bert, with_weights
from tests.pipeline.ranking.conftest import KIND, LEVEL, PRICE, ROWS, SMALL, TAGS, Shop

TEXTS = ["good text no 3", None, "bad text no 4 and more", "good"]


def source(trained: Shop) -> CheckpointSource:
    return CheckpointSource("run", trained.run / "checkpoints" / "best.ckpt")


def test_a_checkpoint_gives_features_and_what_its_heads_say(trained: Shop) -> None:
    found = source(trained)
    assert found.reads(["text", "image"])
    assert not found.reads(["image"])
    network = found.predictor.network
    weights = sum(p.numel() for p in network.parameters())
    heads = sum(p.numel() for p in network.heads.parameters())
    assert found.parameters(["text"]) == weights - heads
    assert found.rows == ROWS // 2 + labelled_prices(trained)

    seen = found.represent({"text": TEXTS}, batch_size=2)
    (features,) = seen.features.values()  # the trunk is the same for both heads
    assert features.rows.tolist() == [0, 2, 3]
    assert features.values.shape == (3, 8)
    said = seen.probabilities["kind"]
    assert not isinstance(said, Absent)
    answers = uncalibrated(found.checkpoint).predict({"text": TEXTS}, ["kind"]).answers["kind"]
    expected = [list(answer["probabilities"].values()) for answer in answers if answer is not None]
    torch.testing.assert_close(said.values, torch.tensor(expected).double(), rtol=1e-4, atol=1e-5)
    assert seen.probabilities["price"] == Absent(
        "its task price has no classes of which a row has one"
    )


def labelled_prices(trained: Shop) -> int:
    data = build_datamodule(trained.config(trained.folder / "source.yaml"))
    data.setup()
    return data.labelled_rows()["price"]


def test_the_features_are_what_the_heads_read(trained: Shop) -> None:
    found = source(trained)
    (features,) = found.represent({"text": TEXTS}, 8).features.values()
    network = found.predictor.network
    with torch.inference_mode():
        logits = network.heads["kind"](features.values.float()).double()
    said = found.represent({"text": TEXTS}, 8).probabilities["kind"]
    assert not isinstance(said, Absent)
    torch.testing.assert_close(logits.softmax(dim=1), said.values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [("trunk=mmoe",), ("encoder/text=transformer", "encoder.text.tune={name: task_lora, rank: 2}")],
)
def test_heads_that_read_different_features(
    options: tuple[str, ...], trained: Shop, tmp_path: Path
) -> None:
    own = [option for option in SMALL if "encoder" not in option]
    steps = ("trainer.max_steps=1", "sampler.batch_size=8", f"run_dir={tmp_path}/run")
    assert fit([f"data={trained.folder / 'source.yaml'}", *own, *steps, *options]) == 0
    found = CheckpointSource("it", tmp_path / "run" / "checkpoints" / "best.ckpt")
    seen = found.represent({"text": TEXTS}, 3)
    assert sorted(seen.features) == ["kind", "price"]
    network = found.predictor.network
    with torch.inference_mode():
        logits = network.heads["kind"](seen.features["kind"].values.float()).double()
    said = seen.probabilities["kind"]
    assert not isinstance(said, Absent)
    torch.testing.assert_close(logits.softmax(dim=1), said.values, rtol=1e-4, atol=1e-5)


def test_features_that_are_no_numbers_have_no_score(trained: Shop) -> None:
    config = trained.config(trained.data("one", kind=KIND))
    target = sample_target(build_datamodule(config), rows=10, seed=0)
    found = source(trained)
    for weight in found.predictor.network.encoders.parameters():
        weight.data.fill_(torch.nan)
    scores = {
        name: instantiate(node, (), f"scores.{name}") for name, node in config["scores"].items()
    }
    ranking = rank_sources(target, [found], scores, 4)
    for score in ("log_me", "h_score", "cka"):
        assert "not all finite" in str(ranking.outcomes["kind"]["run"][score].reason)
    assert "it is nan" in str(ranking.outcomes["kind"]["run"]["leep"].reason)


def test_an_encoder_of_a_folder_by_its_own_tokens(trained: Shop, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs the extra encoders")
    folder = with_weights(bert(tmp_path / "a model"))
    config = trained.config(trained.folder / "source.yaml")
    by_path = find_source(str(folder), config)
    by_option = find_source(f"encoder/text:transformers:{folder}", config)
    by_override = find_source(f"encoder/text=transformers encoder.text.model='{folder}'", config)
    seen = [one.represent({"text": TEXTS}, 2) for one in (by_path, by_option, by_override)]
    assert isinstance(by_path, EncoderSource)
    assert seen[0].features[ENCODER_GROUP].rows.tolist() == [0, 2, 3]
    for other in seen[1:]:
        found, expected = (
            other.features[ENCODER_GROUP].values,
            seen[0].features[ENCODER_GROUP].values,
        )
        torch.testing.assert_close(found, expected)
    assert seen[0].features[ENCODER_GROUP].values.shape == (3, 16)  # the model's own width
    assert by_path.parameters(["text"]) > 1000
    assert not by_path.reads(["image"])


def test_an_ensemble_has_no_features(trained: Shop, tmp_path: Path) -> None:
    best = trained.run / "checkpoints" / "best.ckpt"
    out = tmp_path / "both"
    given = [f"models=[{best},{best}]", "method=ensemble", f"output={out}", "evaluate=false"]
    assert merge([*given, "tracking=none"]) == 0
    with pytest.raises(UsageError, match="both is an ensemble, which predicts, but has neither"):
        CheckpointSource("both", out / "checkpoints" / "best.ckpt")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "nowhere is none of them"),
        ("encoder/text:minilmm", "did you mean minilm"),
        ("encoder/txt:minilm", "did you mean encoder/text"),
        ("encoder/text:bag", "Bag has no pre-trained weights; name a checkpoint of a run with it"),
        ("models:/shop/1", "no database at"),
    ],
)
def test_names_of_no_source(
    name: str, message: str, trained: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PollinateError, match=message):
        find_source(name, trained.config(trained.folder / "source.yaml"))


def test_a_source_counts_once(trained: Shop) -> None:
    config = trained.config(trained.folder / "source.yaml")
    with pytest.raises(UsageError, match="sources must differ, got a more than once"):
        find_sources(["a", "a"], config)


def test_folders_of_models(tmp_path: Path) -> None:
    assert model_folder(tmp_path) is None
    for known, extractor, expected in (
        ({"architecture": "resnet18"}, None, ("image", "timm")),
        ({"model_type": "bert"}, None, ("text", "transformers")),
        ({"model_type": "wav2vec2"}, {"sampling_rate": 16000}, ("audio", "transformers")),
    ):
        (tmp_path / "config.json").write_text(json.dumps(known))
        if extractor is not None:
            (tmp_path / "preprocessor_config.json").write_text(json.dumps(extractor))
        assert model_folder(tmp_path) == expected
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="names neither an architecture of timm nor"):
        model_folder(tmp_path)


def test_a_source_of_another_modality_is_refused(trained: Shop) -> None:
    with pytest.raises(UsageError, match="source run reads text, not image, which the tasks digit"):
        require_fit(source(trained), {"digit": ["image"]})
    require_fit(source(trained), {"digit": ["image"], "kind": ["text"]})


def test_the_target_draws_the_same_rows_for_all_tasks(trained: Shop) -> None:
    data = trained.data("target", kind=KIND, price=PRICE, level=LEVEL, tags=TAGS)
    config = trained.config(data)
    found = sample_target(build_datamodule(config), rows=10, seed=0)
    assert {name: len(task.rows) for name, task in found.tasks.items()} == dict.fromkeys(
        ("kind", "price", "level", "tags"), 10
    )
    assert found.tasks["kind"].rows.tolist() == found.tasks["level"].rows.tolist()
    assert len(found.columns["text"]) < 20  # price has rows of its own, no more
    kind, price = found.tasks["kind"], found.tasks["price"]
    texts = [found.columns["text"][row] for row in kind.rows]
    assert not isinstance(kind.classes, Absent)
    assert [("bad", "good")[c] for c in kind.classes] == [text.split()[0] for text in texts]
    assert isinstance(price.classes, Absent)
    assert "regression has no classes" in price.classes.reason
    assert not isinstance(price.labels, Absent)
    assert price.labels.shape == (10, 1)
    again = sample_target(build_datamodule(config), rows=10, seed=0)
    assert again.columns == found.columns
    other = sample_target(build_datamodule(config), rows=10, seed=1)
    assert other.columns != found.columns


def test_a_target_without_labels_is_refused(trained: Shop) -> None:
    for task, message in (
        ({"type": "classification", "target": "one"}, "got 0 \\(no labels at all\\)"),
        ({"type": "regression", "target": "one"}, "the training split has no numbers"),
    ):
        config = trained.config(trained.data("empty", empty=task))
        with pytest.raises(PollinateError, match=f"task empty: .*{message}"):
            sample_target(build_datamodule(config), rows=10, seed=0)
