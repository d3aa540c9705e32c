"""What pieces add: captum's own numbers, sums that are whole, linear parts exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pollinate as po
from lightning_modules.encoders.base import Encoder
from lightning_modules.explanation.explained_rows import ExplainedRows
from lightning_modules.explanation.parts import added_up, spread
from pollinate.errors import UsageError
from tests.extras import needs
from tests.lightning_modules.explanation.hand_built import (
    DATA,
    DIM,
    explained,
    given,
    network,
    rows,
    task,
    total,
    words_of_ids,
)

pytestmark = needs("captum")
IDS = torch.tensor([[4, 7, 9, 2, 5, 0, 0], [8, 4, 11, 3, 6, 12, 1]])  # 1 and 2 are no words


def text_encoders() -> dict[str, Encoder]:
    torch.manual_seed(0)
    return {
        "bag": po.encoders.Bag(20, DIM, width=6, pairs=32),
        "conv": po.encoders.Conv(20, DIM, width=6, channels=4),
        "gru": po.encoders.GRU(20, DIM, width=6, hidden=5),
        "transformer": po.encoders.Transformer(20, DIM, depth=1, heads=2),
    }


def test_words_have_the_numbers_that_captum_gives_to_the_embedding_layer() -> None:
    from captum.attr import LayerIntegratedGradients

    kind, net = task(), network({"text": text_encoders()["transformer"]}, task())
    found = rows(net, kind, text=IDS).attribute([1, 2], [0, 1], 20)["text"]

    def forward(ids: Tensor) -> Tensor:
        logits = net({DATA: given(text=ids).batch})["kind"]
        return (logits - logits.mean(dim=1, keepdim=True)) * (3 / 2)

    own = LayerIntegratedGradients(forward, net.encoder("text").token)
    for row, answer in enumerate((1, 2)):
        length = int((IDS[row] > 0).sum())
        ids = IDS[row : row + 1, :length]
        # tokens that are no words keep their vectors
        start = torch.where(ids < 3, ids, 0)
        with torch.no_grad():
            wanted = own.attribute(ids, start, target=answer, n_steps=20).sum(dim=-1)[0]
        assert not wanted[ids[0] < 3].any()
        assert torch.allclose(found[row], wanted.float(), atol=1e-5)


def test_pixels_have_the_numbers_of_captum() -> None:
    from captum.attr import IntegratedGradients

    kind, pictures = task(), torch.rand(2, 3, 12, 12)
    net = network({"image": po.encoders.CNN(3, DIM, width=8, stages=2)}, kind)
    found = rows(net, kind, image=pictures).attribute([0, 2], [0, 1], 8)["image"]

    def forward(images: Tensor) -> Tensor:
        logits = net({DATA: given(image=images).batch})["kind"]
        return (logits - logits.mean(dim=1, keepdim=True)) * (3 / 2)

    grey = pictures.mean(dim=(2, 3), keepdim=True).expand_as(pictures)
    wanted = IntegratedGradients(forward).attribute(pictures, grey, target=[0, 2], n_steps=8)
    assert torch.allclose(torch.stack(found), wanted.sum(dim=1).float(), atol=1e-5)


@pytest.mark.parametrize("name", ["bag", "conv", "gru", "transformer"])
def test_words_add_up_to_the_change_of_the_score(name: str) -> None:
    kind, net = task(), network({"text": text_encoders()[name]}, task())
    own = rows(net, kind, text=IDS)
    pieces = own.attribute([0, 1], [0, 1], 128)
    change = own.score_of([0, 1], [0, 1], {}) - own.score_of([0, 1], [0, 1])

    for row in (0, 1):
        assert abs(total(pieces, row) - change[row]) < 0.02 * abs(change[row]) + 1e-3


def test_frames_add_up_and_padding_adds_nothing() -> None:
    frames = torch.randn(2, 12, 6)
    frames[1, 7:] = torch.nan
    kind = po.tasks.Regression(DATA, "label", scale=[10.0, 4.0])
    net = network({"audio": po.encoders.Spectrogram(6, DIM, width=8, depth=2)}, kind)
    own = rows(net, kind, audio=frames)
    pieces = own.attribute([0, 0], [0, 1], 128)
    change = own.score_of([0, 0], [0, 1], {}) - own.score_of([0, 0], [0, 1])

    assert [tuple(one.shape) for one in pieces["audio"]] == [(12, 6), (7, 6)]
    for row in (0, 1):
        assert total(pieces, row) == pytest.approx(float(change[row]), rel=0.02, abs=0.01)


def test_two_modalities_add_up_together() -> None:
    cnn = po.encoders.CNN(1, DIM, width=16, stages=1)
    encoders, kind = {"text": text_encoders()["bag"], "image": cnn}, task()
    fusions = {"image+text": po.fusions.Gated(["image", "text"], DIM)}
    net = network(encoders, kind, fusions=fusions)
    own = rows(net, kind, text=IDS, image=torch.rand(2, 1, 8, 8))
    # group norm makes a picture hardly brighter than a flat one count nearly in full
    pieces = own.attribute([2, 0], [0, 1], 1024)
    change = own.score_of([2, 0], [0, 1], {}) - own.score_of([2, 0], [0, 1])

    assert set(pieces) == {"text", "image"}
    for row in (0, 1):
        assert total(pieces, row) == pytest.approx(float(change[row]), rel=0.02, abs=0.01)


def test_what_is_kept_is_answered_as_the_row() -> None:
    kind, net = task(), network({"text": text_encoders()["bag"]}, task())
    own = rows(net, kind, text=IDS)
    ones = [torch.ones(len(text.spans)) for text in own.texts]
    whole = own.score_of([0, 0], [0, 1], {})
    logits = own.explained.scores.of(net({DATA: own.batch})["kind"])

    assert torch.allclose(own.score_of([0, 0], [0, 1], {"text": ones}), whole, atol=1e-6)
    assert torch.allclose(whole, logits[:, 0].detach(), atol=1e-6)
    nothing = own.score_of([0, 0], [0, 1], {"text": [one * 0 for one in ones]})
    assert torch.allclose(nothing, own.score_of([0, 0], [0, 1]), atol=1e-6)


def test_an_encoder_that_hides_its_tokens_is_named() -> None:
    class Hidden(Encoder):
        def __init__(self) -> None:
            super().__init__()
            self.dim = DIM
            self.table = nn.Embedding(20, DIM)

        def forward(self, inputs: Tensor) -> po.Features:
            return po.Features(self.table(inputs).mean(dim=1))

    kind = task()
    with pytest.raises(UsageError, match="Hidden doesn't; give its class a method token_layers"):
        rows(network({"text": Hidden()}, kind), kind, text=IDS)


def test_coarse_cells_are_spread_and_nothing_is_lost() -> None:
    cells = torch.arange(6.0).view(2, 3)
    fine = spread(cells, (5, 7))

    assert fine.shape == (5, 7)
    assert float(fine.sum()) == pytest.approx(15.0)
    both = added_up([{"image": [cells]}, {"image": [torch.ones(5, 7)]}])
    assert float(both["image"][0].sum()) == pytest.approx(50.0)


def wide_rows(kind: Any, seed: int = 0) -> tuple[po.MultiTaskNetwork, ExplainedRows, Any]:
    """Rows of a network whose task has a wide path of random weights, and their texts."""
    from datamodules.modalities.text import TextModality
    from datamodules.terms import TermWeights, count_terms
    from lightning_modules.wide_path import WidePath

    texts = ["Good bread, good TEA!", "bad <b>soup</b> and stale bread", "not good"]
    modality = TextModality(vocab_size=300, max_length=6, wide=True)
    modality.fit([texts])
    store = modality.prepare(texts).store
    path = WidePath("kind", kind.linear_shift)
    weights = TermWeights(count_terms(texts))
    columns = kind.label_columns(torch.zeros(1)).shape[1]
    torch.manual_seed(seed)
    path.fill(
        {
            "terms": torch.from_numpy(weights.numbers),
            "idf": torch.from_numpy(weights.idf),
            "table": torch.randn(len(weights.numbers), columns),
            "bias": torch.randn(columns),
            "scale": torch.tensor(0.7),
        }
    )
    encoder = po.encoders.Bag(modality.tokenizer.vocab_size, DIM, width=6, pairs=32)
    net = network({"text": encoder}, kind, wide={"kind": path})
    own = given(text=store.rows(np.arange(3)))
    own.batch.terms["text"] = store.terms(np.arange(3))
    return (
        net,
        ExplainedRows(explained(net, kind), own, {"text": [*map(modality.pieces, texts)]}),
        path,
    )


def test_a_wide_path_is_attributed_exactly_term_by_term() -> None:
    """With a deep part that says nothing, each word has its terms' weights, of cut words too."""
    kind = po.tasks.Regression(DATA, "label", scale=[10.0, 4.0])
    net, own, path = wide_rows(kind)
    torch.nn.init.zeros_(net.heads["kind"].linear.weight)
    pieces = own.attribute([0, 0, 0], [0, 1, 2], 1)["text"]

    place, weight = path.weights(own.batch.terms["text"])
    terms = own.batch.terms["text"]
    for row, text in enumerate(own.texts):
        occurrences, shares = text.terms()
        wanted = np.zeros(len(text.spans))
        for number, share in zip(occurrences.numbers, shares, strict=True):
            at = int((terms[row, :, 0] == int(number)).nonzero()[0])
            count = int((occurrences.numbers == number).sum())
            each = float(weight[row, at] * path.table[place[row, at], 0]) * 0.7 * 4.0
            wanted += each / count * share
        assert np.allclose(pieces[row].numpy(), wanted, atol=1e-4)
    change = own.score_of([0] * 3, [0, 1, 2], {}) - own.score_of([0] * 3, [0, 1, 2])
    assert torch.allclose(torch.stack([one.sum() for one in pieces]), change, atol=1e-4)


@pytest.mark.parametrize("noise", ["constant", "input", "quantiles"])
def test_a_deep_and_a_wide_part_add_up(noise: str) -> None:
    kind = po.tasks.Regression(DATA, "label", scale=[10.0, 4.0], noise=noise)
    _, own, _ = wide_rows(kind)
    pieces = own.attribute([0, 0, 0], [0, 1, 2], 64)
    change = own.score_of([0] * 3, [0, 1, 2], {}) - own.score_of([0] * 3, [0, 1, 2])

    for row in range(3):
        assert total(pieces, row) == pytest.approx(float(change[row]), rel=0.01, abs=0.01)
    kept = [torch.zeros(len(text.spans)) for text in own.texts]
    without_words = own.score_of([0] * 3, [0, 1, 2], {"text": kept})
    assert torch.allclose(without_words, own.score_of([0] * 3, [0, 1, 2]), atol=1e-4)


@pytest.mark.parametrize("kind", [task(), po.tasks.Ordinal(DATA, "label", classes=["1", "2", "3"])])
def test_a_linear_model_is_attributed_exactly(kind: Any) -> None:
    from lightning_modules.descriptors import picture_descriptors
    from lightning_modules.linear_network import LinearNetwork

    net = LinearNetwork({"kind": kind}, {"kind": (DATA,)}, {DATA: ["image"]})
    model, pictures = net.of_task("kind"), torch.rand(2, 1, 16, 16)
    count = picture_descriptors(pictures).shape[1]
    model.words.fill(
        {
            "terms": torch.zeros(0), "idf": torch.zeros(0), "table": torch.zeros(0, 3),
            "bias": torch.randn(3), "scale": torch.tensor(2.0),
        }
    )  # fmt: skip
    ones = torch.ones(count)
    model.described["image"].fill(
        {"mean": 0.2 * ones, "rate": ones, "low": -9 * ones, "high": 9 * ones,
         "table": torch.randn(count, 3)}
    )  # fmt: skip
    own = rows(net, kind, image=pictures)
    pieces = own.attribute([0, 0], [0, 1], 1)["image"]
    change = own.score_of([0, 0], [0, 1], {}) - own.score_of([0, 0], [0, 1])

    assert pieces[0].shape == (8, 8)
    assert torch.allclose(torch.stack([one.sum() for one in pieces]), change, atol=1e-4)
    # without the cells of the left half, as much is gone as they had added
    kept = torch.ones(8, 8)
    kept[:, :4] = 0
    left = own.score_of([0, 0], [0, 1], {"image": [kept, kept]})
    lost = torch.stack([one[:, :4].sum() for one in pieces])
    assert torch.allclose(own.score_of([0, 0], [0, 1], {}) - left, lost, atol=1e-4)


def test_words_are_as_many_as_ids() -> None:
    assert [len(text.tokens) for text in words_of_ids(IDS)] == [5, 7]
