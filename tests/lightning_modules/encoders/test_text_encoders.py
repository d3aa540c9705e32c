"""Properties that every text encoder has."""

import pytest
import torch

from lightning_modules.encoders.bag import Bag, hash_pairs
from lightning_modules.encoders.base import Encoder
from lightning_modules.encoders.conv import Conv
from lightning_modules.encoders.gru import GRU
from lightning_modules.encoders.transformer import Transformer, positions
from pollinate.errors import UsageError

DIM = 16


def encoders() -> list[Encoder]:
    return [
        Bag(vocab_size=50, dim=DIM, width=8, pairs=64),
        Conv(vocab_size=50, dim=DIM, width=8, channels=4),
        Transformer(vocab_size=50, dim=DIM, depth=2, heads=2),
        GRU(vocab_size=50, dim=DIM, width=8, hidden=6),
    ]


@pytest.fixture(params=range(4), ids=["bag", "conv", "transformer", "gru"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    torch.manual_seed(0)
    encoder = encoders()[request.param]
    for parameter in encoder.parameters():  # zeros at the start would hide differences
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    for module in encoder.modules():
        if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
            module.weight.data[module.padding_idx] = 0
    return encoder.eval()


def test_a_token_says_little_to_gru_before_it_is_learnt() -> None:
    weight = GRU(vocab_size=500, dim=DIM).token.weight
    assert weight.std().item() == pytest.approx(0.1, rel=0.05)
    assert not weight[0].any()


IDS = torch.tensor([[5, 6, 7, 8, 9], [5, 6, 0, 0, 0], [1, 0, 0, 0, 0]])


def test_shapes(encoder: Encoder) -> None:
    features = encoder(IDS)
    assert features.pooled.shape == (3, DIM)
    assert features.sequence is not None
    assert features.sequence.shape == (3, 5, DIM)
    assert features.mask is not None
    assert features.mask.tolist() == (IDS != 0).tolist()
    assert features.grid is None
    assert encoder.dim == DIM


def test_padding_changes_nothing(encoder: Encoder) -> None:
    padded = encoder(torch.nn.functional.pad(IDS, (0, 40)))
    whole = encoder(IDS)
    single = encoder(IDS[1:2, :2])
    torch.testing.assert_close(padded.pooled, whole.pooled, atol=1e-6, rtol=0)
    torch.testing.assert_close(single.pooled, whole.pooled[1:2], atol=1e-6, rtol=0)
    torch.testing.assert_close(single.sequence, whole.sequence[1:2, :2], atol=1e-6, rtol=0)
    torch.testing.assert_close(padded.sequence[:, :5][IDS != 0], whole.sequence[IDS != 0])


def test_word_order_matters(encoder: Encoder) -> None:
    there, back = encoder(torch.tensor([[5, 6, 7, 8], [8, 7, 6, 5]])).pooled
    assert not torch.allclose(there, back, atol=1e-4)


def test_every_parameter_that_pooled_needs_gets_a_gradient(encoder: Encoder) -> None:
    features = encoder.train()(IDS)
    (features.pooled.square().sum() + features.sequence.square().sum()).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's own, between two graphs
def test_compiles(encoder: Encoder) -> None:
    """In one graph, but for the recurrent one: it packs rows by lengths that a graph can't know."""
    whole = not isinstance(encoder, GRU)
    compiled = torch.compile(encoder, backend="eager", fullgraph=whole)
    torch.testing.assert_close(compiled(IDS).pooled, encoder(IDS).pooled)


def test_bag_by_hand() -> None:
    """With equal weights it is the mean of token and pair embeddings."""
    bag = Bag(vocab_size=4, dim=2, width=2, pairs=8).eval()
    bag.project = torch.nn.Identity()  # type: ignore[assignment]  # shows what is projected
    torch.nn.init.normal_(bag.pair.weight)
    ids = torch.tensor([[2, 3]])
    first, second = hash_pairs(ids, 8)[0].tolist()
    rows = bag.token.weight[[2, 3]] + bag.pair.weight[[first, second]]
    torch.testing.assert_close(bag(ids).pooled[0], rows.mean(dim=0))


def test_pairs_are_spread_evenly() -> None:
    ids = torch.randint(2, 8000, (100, 1000), generator=torch.Generator().manual_seed(0))
    counts = hash_pairs(ids, 1000).flatten().bincount(minlength=1000).float()
    chi2 = ((counts - 100) ** 2 / 100).sum()
    assert chi2 < 1200  # 999 degrees of freedom: 4.5 standard deviations


def test_positions_by_hand() -> None:
    expected = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.841471, 0.0099998, 0.540302, 0.99995]])
    torch.testing.assert_close(positions(2, 4), expected)


def test_errors() -> None:
    with pytest.raises(UsageError, match=r"kernels must be odd .* got \[2\]"):
        Conv(vocab_size=5, dim=4, kernels=[2])
    with pytest.raises(UsageError, match=r"multiple of 2 \* heads = 8, got 12"):
        Transformer(vocab_size=5, dim=12, heads=4)
