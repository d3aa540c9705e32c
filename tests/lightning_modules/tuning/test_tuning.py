"""Which weights train, and that frozen ones stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from lightning_modules.building import apply_tuning
from lightning_modules.encoders.bag import Bag
from lightning_modules.encoders.cnn import CNN
from lightning_modules.encoders.timm_image import TimmImage
from lightning_modules.encoders.transformer import Transformer
from lightning_modules.encoders.transformers_text import TransformersText
from lightning_modules.freezing import parameter_groups_of, train_only
from lightning_modules.tuning.base import SteppedTuning
from lightning_modules.tuning.bitfit import BitFit
from lightning_modules.tuning.dora import DoRA
from lightning_modules.tuning.frozen import Frozen
from lightning_modules.tuning.gradual import Gradual
from lightning_modules.tuning.last_blocks import LastBlocks
from lightning_modules.tuning.lora import LoRA
from pollinate.errors import UsageError
from tests.extras import needs
from tests.rows.groups import rows
from tests.rows.row import DATA, Row, ids

TASKS = ("a", "b")

pytestmark = needs("transformers", "timm", "peft")


def text() -> TransformersText:
    torch.manual_seed(0)
    return TransformersText(85, 8, str(DATA / "text_model"), weights=False)


def picture(model: str = "test_resnet") -> TimmImage:
    torch.manual_seed(0)
    return TimmImage(3, 8, model, weights=False)


def trained(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


@pytest.mark.parametrize("row", rows("tune"), ids=ids)
def test_row(row: Row) -> None:
    encoder, tuning = text(), row.build()
    tuning.apply(encoder, TASKS)
    if isinstance(tuning, SteppedTuning):
        assert tuning.at(encoder, row.given)
        assert not tuning.at(encoder, row.given)
    assert trained(encoder.tuned_part()) == row.expected
    assert trained(encoder.project) == 16 * 8 + 8


@pytest.mark.parametrize("wrong", ["lora", LoRA])
def test_a_tuning_that_is_none_is_refused(wrong: object) -> None:
    with pytest.raises(UsageError, match=r"encoder.text.tune must be .* po.tuning.LoRA\(\), got"):
        apply_tuning(Bag(30, 8), wrong, TASKS, (), "encoder.text.tune")  # type: ignore[arg-type]


def test_equal_weights_are_told_apart() -> None:
    network = nn.Sequential(nn.LayerNorm(4), nn.LayerNorm(4))
    train_only(network, network[1].parameters())
    assert [p.requires_grad for p in network.parameters()] == [False, False, True, True]


@pytest.mark.parametrize("tuning", [Frozen, BitFit, LoRA])
def test_frozen_statistics_stay(tuning: Callable[[], Frozen | BitFit | LoRA]) -> None:
    encoder = picture()
    tuning().apply(encoder, TASKS)
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    encoder.train().eval().train()
    encoder(torch.rand(4, 3, 64, 64)).pooled.sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in encoder.named_buffers())


def test_statistics_of_the_blocks_that_train_move() -> None:
    encoder = picture()
    LastBlocks(1).apply(encoder, TASKS)
    training = [m.training for m in encoder.network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert any(training)
    assert not all(training)
    assert not encoder.network.bn1.training


@pytest.mark.parametrize("encoder", [text, picture, lambda: picture("test_vit")])
def test_groups_have_every_parameter_once(encoder: Callable[[], TimmImage]) -> None:
    built = encoder()
    found = [id(p) for group in built.tuned_groups() for p in group]
    assert sorted(found) == sorted(id(p) for p in built.tuned_part().parameters())
    assert len(built.tuned_groups()) > 2


def test_blocks_by_hand() -> None:
    first, last = nn.Linear(2, 3), nn.Linear(3, 1)
    layers = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    network = nn.ModuleDict({"first": first, "layers": layers, "last": last})
    assert [[tuple(p.shape) for p in group] for group in parameter_groups_of(network)] == [
        [(3, 2), (3,)],
        [(3, 3), (3,)],
        [(3, 3), (3,), (1, 3), (1,)],
    ]


def test_our_own_encoders_can_be_tuned() -> None:
    transformer, cnn = Transformer(20, 16, depth=3), CNN(1, 8)
    LastBlocks(2).apply(transformer, TASKS)
    assert not transformer.token.weight.requires_grad
    assert not any(p.requires_grad for p in transformer.blocks[0].parameters())
    assert transformer.norm.weight.requires_grad
    LoRA(rank=2, targets=["split"]).apply(Transformer(20, 16), TASKS)
    Frozen().apply(cnn, TASKS)
    assert trained(cnn) == 0


def test_gradual_is_a_function_of_the_step_alone() -> None:
    encoder, tuning = text(), Gradual(every=10, first=0)
    tuning.apply(encoder, TASKS)
    counts = []
    for step in (0, 9, 10, 25, 30, 10**6, 0):
        tuning.at(encoder, step)
        counts.append(trained(encoder.tuned_part()))
    assert counts == [0, 0, 2224, 4448, 6384, 6384, 0]


@pytest.mark.parametrize("kind", [LoRA, DoRA])
@pytest.mark.parametrize("encoder", [text, picture, lambda: picture("test_vit")])
def test_adapters_change_nothing_at_the_start(
    encoder: Callable[[], TimmImage], kind: type[LoRA | DoRA]
) -> None:
    built = encoder().eval()
    inputs = torch.rand(2, 3, 160, 160) if isinstance(built, TimmImage) else torch.ones(2, 3).long()
    before = built(inputs).pooled
    kind().apply(built, TASKS)
    torch.testing.assert_close(built(inputs).pooled, before, atol=1e-5, rtol=1e-4)
    built(inputs).pooled.sum().backward()
    assert all(p.grad is None for n, p in built.network.named_parameters() if "base_layer" in n)
    assert any(p.grad is not None for n, p in built.network.named_parameters() if "lora_B" in n)


def test_targets_are_layers_of_the_blocks() -> None:
    encoder = picture("test_vit")
    LoRA(targets=["proj"]).apply(encoder, TASKS)
    adapted = {n.partition(".lora_")[0] for n, _ in encoder.named_parameters() if ".lora_" in n}
    assert adapted
    assert all(".blocks." in name for name in adapted)  # the embedding of patches is a proj, too


def test_errors() -> None:
    with pytest.raises(UsageError, match="last_blocks needs blocks, the encoder has none"):
        LastBlocks().apply(Bag(40, 8), TASKS)
    with pytest.raises(UsageError, match=r"tune.blocks must be in \[1, 2\], .* got 3"):
        LastBlocks(3).apply(text(), TASKS)
    with pytest.raises(UsageError, match=r"tune.every must be >= 1 .* got 0 and 1"):
        Gradual(every=0)
    with pytest.raises(UsageError, match=r"got project; there are dense, key, query, value\. What"):
        LoRA(targets=["query", "project"]).apply(text(), TASKS)
    with pytest.raises(UsageError, match=r"tune.rank must be >= 1 and dropout in \[0, 1\), got 0"):
        LoRA(rank=0).apply(text(), TASKS)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = text()
    monkeypatch.setattr("pollinate.requirements.installed_spec", lambda _: None)
    with pytest.raises(
        UsageError, match=r'peft is not installed; run pip install "pollinate\[peft'
    ):
        LoRA().apply(encoder, TASKS)
    for build in (text, picture):
        with pytest.raises(UsageError, match=r'is not installed; run .*"pollinate\[encoders\]"'):
            build()


def test_what_peft_refuses_is_an_error_of_targets() -> None:
    transformers = pytest.importorskip("transformers")
    encoder = text()
    encoder.network = transformers.MambaModel(
        transformers.MambaConfig(vocab_size=8, hidden_size=8, num_hidden_layers=2)
    )
    with pytest.raises(UsageError, match=r"tune\.targets: peft refuses them: .*out_proj"):
        LoRA().apply(encoder, TASKS)


def test_a_state_fits_an_encoder_that_was_adapted_in_the_same_way(tmp_path: Path) -> None:
    first, again = text().eval(), text().eval()
    for encoder in (first, again):
        DoRA(rank=2).apply(encoder, TASKS)
    for parameter in first.parameters():
        nn.init.normal_(parameter, std=0.1)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    tokens = torch.tensor([[2, 5, 3]])
    assert torch.equal(again(tokens).pooled, first(tokens).pooled)
