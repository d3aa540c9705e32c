"""Features of a frozen backbone: what is kept is what it computes, or is refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datamodules.arrays import FileArrays, RaggedArray
from datamodules.feature_table import FeatureTable
from datamodules.features import Features, PooledOnly, concat_features
from datamodules.modalities.base import InputStore
from datamodules.modalities.text import TextStore, TokenDropout
from lightning_modules.encoders.base import Encoder
from lightning_modules.encoders.cnn import CNN
from lightning_modules.encoders.pooling import masked_mean
from lightning_modules.encoders.transformer import Transformer
from lightning_modules.feature_extraction import REFUSED, WINDOW, FeatureExtraction
from lightning_modules.tuning.frozen import Frozen
from lightning_modules.tuning.gradual import Gradual
from pollinate.errors import UsageError

ROWS = WINDOW + 70
LACKING = 7  # every 7th row has no text


def texts() -> TextStore:
    """Texts of 1 to 9 tokens; some rows have none."""
    generator = np.random.default_rng(0)
    has = np.arange(ROWS) % LACKING > 0
    rows = [generator.integers(1, 20, generator.integers(1, 10) * there) for there in has]
    return TextStore(
        RaggedArray.of(rows, np.int32), has, TokenDropout(), None, np.zeros(ROWS, bool)
    )


def write(
    folder: Path, encoder: Encoder, whole: bool, store: InputStore | None = None
) -> FileArrays:
    FeatureExtraction(encoder.backbone, store or texts(), whole, 1e-3, "features", "switch").write(
        folder
    )
    return FileArrays(folder)


def frozen(encoder: Encoder) -> Encoder:
    Frozen().apply(encoder, ["a"])
    return encoder.train()


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(0)
    return frozen(Transformer(20, 16, dropout=0.5))


def test_what_is_kept_is_what_the_backbone_computes(encoder: Encoder, tmp_path: Path) -> None:
    store = texts()
    kept = FeatureTable(write(tmp_path, encoder, whole=True))
    rows = np.random.default_rng(1).permutation(np.flatnonzero(store.has))[:50]
    found, expected = kept.rows(rows), encoder.backbone(store.rows(rows))
    assert found.whole
    assert expected.mask is not None
    assert expected.sequence is not None
    close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)
    close(found.features.pooled, expected.pooled)
    assert found.features.mask is not None
    assert torch.equal(found.features.mask, expected.mask)
    close(found.features.sequence, expected.sequence * expected.mask[..., None])
    none = kept.rows(np.array([], np.int64)).features
    assert none.pooled.shape == (0, 16)
    assert concat_features([none, found.features]).pooled.shape == (50, 16)


def test_a_second_pass_writes_the_same_bytes(encoder: Encoder, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, encoder, whole=False)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert "pooled.flat" in files
    assert "sequence.flat" not in files
    assert all(
        (tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files
    )


class Pictures(InputStore):
    """Noise of 8 x 8."""

    def __init__(self) -> None:
        self.has = np.ones(40, bool)
        self.pixels = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    def rows(self, rows: np.ndarray) -> Tensor:
        return self.pixels[rows]

    def augmented(self, rows: np.ndarray, *_: object, **__: object) -> Tensor:
        return self.rows(rows)


def test_grids_are_kept(tmp_path: Path) -> None:
    encoder, store = frozen(CNN(1, 8, width=8)), Pictures()
    rows = np.array([5, 3, 39])
    found = FeatureTable(write(tmp_path, encoder, True, store)).rows(rows).features
    expected = encoder.backbone(store.rows(rows))
    torch.testing.assert_close(found.grid, expected.grid)
    torch.testing.assert_close(found.pooled, expected.pooled)
    assert found.mask is None


class Careless(Encoder):
    """Its features depend on the rows beside a row: the padding counts."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 4
        self.token = nn.Embedding(20, 4)

    def forward(self, inputs: Tensor) -> Features:
        return Features(self.token(inputs).mean(dim=1))


class Unfinished(Transformer):
    """A part of it trains that it doesn't name."""

    def tuned_part(self) -> nn.Module:
        return self.blocks


class Reversed(Transformer):
    """Its padding comes first."""

    def forward(self, inputs: Tensor) -> Features:
        rows = super().forward(inputs)
        assert rows.sequence is not None
        assert rows.mask is not None
        mask = rows.mask.flip(1)
        return Features(masked_mean(rows.sequence.flip(1), mask), rows.sequence.flip(1), mask=mask)


@pytest.mark.parametrize(
    ("encoder", "reason"),
    [
        (Careless(), "depend on the rows beside a row: a number changes by "),
        (Unfinished(20, 16), "weights that train have a part"),
        (Reversed(20, 16), "don't come before the padding"),
    ],
)
def test_what_is_no_function_of_a_row_is_refused(
    tmp_path: Path, encoder: Encoder, reason: str
) -> None:
    arrays = write(tmp_path, frozen(encoder), whole=True)
    assert reason in arrays.value(REFUSED)
    assert not list(tmp_path.glob("*.flat"))


def test_reading_tokens_that_were_left_out_is_refused() -> None:
    features = PooledOnly(torch.ones(2, 3))
    assert features.pooled.shape == (2, 3)
    for name in ("sequence", "grid", "mask"):
        with pytest.raises(UsageError, match=rf"features.{name} .* set reads_tokens = True"):
            getattr(features, name)


def test_a_frozen_backbone_has_no_dropout(encoder: Encoder) -> None:
    tokens = torch.randint(1, 20, (8, 6))
    assert torch.equal(encoder.train()(tokens).pooled, encoder.eval()(tokens).pooled)


def test_dropout_comes_back_with_the_first_weight_that_trains() -> None:
    encoder, tuning = Transformer(20, 16), Gradual(every=1, first=0)
    tuning.apply(encoder, ["a"])
    tuning.at(encoder, 0)
    assert not any(part.training for part in encoder.modules())
    tuning.at(encoder, 1)
    assert all(part.training for part in encoder.modules())


def test_features_of_data_sets_are_put_together_with_padding() -> None:
    short, long = (
        Features(torch.ones(2, 3), torch.ones(2, n, 3), mask=torch.ones(2, n) > 0) for n in (1, 4)
    )
    found = concat_features([short, long])
    assert found.sequence is not None
    assert found.mask is not None
    assert found.sequence.shape == (4, 4, 3)
    assert found.sequence[:2, 1:].abs().sum() == 0
    assert found.mask.sum(dim=1).tolist() == [1, 1, 4, 4]
    assert found.grid is None
