"""Audio models of transformers: samples, spectrograms, weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.modalities.audio import AudioModality
from lightning_modules.encoders.transformers_audio import (
    TransformersAudio,
    least_samples,
    shortened,
)
from pollinate.errors import PollinateError
from tests import models
from tests.models import with_weights

pytest.importorskip("transformers", reason="needs the extra encoders")

KINDS = [models.wav2vec2, models.ast]
RATE = 16000


def sounds() -> list[np.ndarray]:
    """Noise of a fifth and of a tenth of a second."""
    draws = np.random.default_rng(0)
    return [draws.uniform(-1, 1, RATE // part).astype(np.float32) for part in (5, 10)]


def encoded(model: Path, dim: int = 8) -> tuple[TransformersAudio, torch.Tensor]:
    """The encoder of a model, without dropout, and two recordings."""
    assets = TransformersAudio.assets_of({"model": str(model)})
    modality = AudioModality(assets=assets)
    store = modality.prepare([(sound, RATE) for sound in sounds()]).store
    torch.manual_seed(0)
    encoder = TransformersAudio(dim=dim, model=str(model), **modality.encoder_arguments())
    encoder.load()
    return encoder.eval(), store.rows(np.arange(2))


@pytest.mark.parametrize("kind", KINDS)
def test_the_features_are_those_of_the_library(
    kind: Callable[[Path], Path], tmp_path: Path
) -> None:
    from transformers import AutoFeatureExtractor, AutoModel

    model = with_weights(kind(tmp_path))
    encoder, inputs = encoded(model, dim=16)
    extract, network = AutoFeatureExtractor.from_pretrained(model), AutoModel.from_pretrained(model)
    sound = sounds()[0][:: RATE // extract.sampling_rate]
    if extract.sampling_rate != RATE:
        sound = inputs[0, :, 0].numpy()  # resampled and normalised
    values = extract(sound, sampling_rate=extract.sampling_rate, return_tensors="pt")
    expected = network.eval()(values["input_values"]).last_hidden_state
    found = encoder(inputs[:1])
    torch.testing.assert_close(found.sequence, expected, atol=2e-2, rtol=2e-2)  # kept in 16 bits
    torch.testing.assert_close(found.pooled, found.sequence.mean(dim=1))


def test_padding_changes_nothing_where_the_model_knows_a_mask(tmp_path: Path) -> None:
    encoder, inputs = encoded(with_weights(models.wav2vec2(tmp_path)))
    whole = encoder(inputs)
    length = int((~inputs[1, :, 0].isnan()).sum())
    single = encoder(inputs[1:, :length])
    assert whole.mask is not None
    assert single.sequence is not None
    count = int(whole.mask[1].sum())
    assert abs(count - single.sequence.shape[1]) <= 1
    inner = slice(0, count - 5)  # convolutions look a little beyond the end
    torch.testing.assert_close(
        whole.sequence[1, inner], single.sequence[0, inner], atol=1e-4, rtol=1e-3
    )


def test_a_click_is_long_enough(tmp_path: Path) -> None:
    encoder, inputs = encoded(with_weights(models.wav2vec2(tmp_path)))
    assert encoder.least == least_samples(models.SAMPLES) == 20
    assert encoder(inputs[:, :3]).pooled.isfinite().all()
    encoder.train()(inputs[:0]).pooled.sum().backward()


def test_shortened_by_hand() -> None:
    real = torch.tensor([[True] * 8, [True] * 3 + [False] * 5])
    assert shortened(real, 4).tolist() == [[True] * 4, [True, True, False, False]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_needs_no_folder(kind: Callable[[Path], Path], tmp_path: Path) -> None:
    first, inputs = encoded(with_weights(kind(tmp_path)))
    assets = TransformersAudio.assets_of({"model": str(tmp_path)})
    assert json.loads(json.dumps(assets)) == assets
    modality = AudioModality(assets=AudioModality(assets=assets).state_dict()["assets"])
    again = TransformersAudio(dim=8, model="/gone", **modality.encoder_arguments()).eval()
    again.load_state_dict(first.state_dict())
    assert torch.equal(again(inputs).pooled, first(inputs).pooled)


def test_what_is_no_audio_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PollinateError, match="takes input_values, but one of bert takes input_ids"):
        encoded(models.bert(tmp_path))
    models.ast(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(PollinateError, match=r"has no preprocessor_config\.json"):
        encoded(tmp_path)
