"""Frozen sources inside a run's network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.building import HEAD_INPUT
from lightning_modules.module import MultiTaskModule
from lightning_modules.network import ForwardTrace, HeadInput
from lightning_modules.transfer.frozen_model import (
    encoder_spec,
    library_network,
    rebuild_network,
)
from lightning_modules.transfer.several import Several
from lightning_modules.transfer.source_attention import AttentionMixer, SourceAttention
from lightning_modules.transfer.source_fusion import FrozenSourceTransfer, SourceFusion
from lightning_modules.transfer.weighted_fusion import WeightedFusion, WeightedMixer
from pipeline.transfer_sources import SourceOpener
from pollinate.errors import UsageError
from pollinate.namespaces import public_name
from tests.lightning_modules.transfer.helpers import SingleSourceOpener, source_of
from tests.tiny import images, multitask, ready, trainer

TWO = {"near": "a", "far": "b"}
METHODS: dict[str, Callable[[], FrozenSourceTransfer]] = {
    "attention": lambda: SourceAttention(TWO),
    "weights": lambda: WeightedFusion(TWO),
}


def run(**options: Any) -> tuple[MultiTaskModule, MixedDataModule]:
    data = ready(**options)
    return multitask(data), data


def source_fusion(name: str) -> tuple[MultiTaskModule, MixedDataModule, SourceFusion]:
    module, data = run()
    module.transfer = METHODS[name]()
    module.transfer.setup(module, data, SingleSourceOpener(source_of(module, data)))
    fusion = module.network.head_input
    assert isinstance(fusion, SourceFusion)
    return module, data, fusion


def test_attention_by_hand() -> None:
    mixer = AttentionMixer(2, {"s": 3})
    project: Any = mixer.project["s"]
    with torch.no_grad():
        mixer.query.weight.copy_(torch.eye(2))
        mixer.key.weight.copy_(torch.eye(2))
        project[1].weight.zero_()
        for layer in (mixer.query, mixer.key):
            layer.bias.zero_()
        project[1].bias.copy_(torch.tensor([0.0, 2.0]))
    rows = torch.tensor([[1.0, 1.0]])
    read, weights = mixer(rows, {"s": torch.randn(1, 3)})
    # both score 2 / sqrt 2: x + (x + z) / 2
    assert weights.tolist() == [pytest.approx([0.5, 0.5])]
    assert read.tolist() == [pytest.approx([1.5, 2.5])]


def test_weights_by_hand() -> None:
    mixer = WeightedMixer(2, {"s": 3, "t": 2}, own=0.5)
    for source, value in (("s", 4.0), ("t", 8.0)):
        project: Any = mixer.project[source]
        nn.init.zeros_(project[1].weight)
        nn.init.constant_(project[1].bias, value)
    source_features = {"s": torch.randn(1, 3), "t": torch.randn(1, 2)}
    read, weights = mixer(torch.tensor([[2.0, 0.0]]), source_features)
    assert weights.tolist() == [pytest.approx([0.5, 0.25, 0.25])]
    assert read.tolist() == [pytest.approx([4.0, 3.0])]


@pytest.mark.parametrize("name", METHODS)
def test_sources_are_saved_and_never_trained(name: str, tmp_path: Path) -> None:
    module, data, borrowed = source_fusion(name)
    before = {key: value.clone() for key, value in borrowed.source_encoders.state_dict().items()}
    start = {key: value.clone() for key, value in borrowed.mixers.state_dict().items()}
    trainer(tmp_path, max_steps=2, limit_val_batches=0).fit(module, datamodule=data)
    after = borrowed.source_encoders.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    moved = borrowed.mixers.state_dict()
    assert any(not torch.equal(value, moved[key]) for key, value in start.items())
    assert not any(weight.requires_grad for weight in borrowed.source_encoders.parameters())
    assert any(
        key.startswith("network.head_input.source_encoders.near") for key in module.state_dict()
    )
    assert not any(key.startswith("transfer.") for key in module.state_dict())
    module.train()
    source_encoders = borrowed.source_encoders.values()
    assert not any(
        part.training for source_encoder in source_encoders for part in source_encoder.modules()
    )


@pytest.mark.parametrize("name", METHODS)
def test_what_a_task_takes_is_known(name: str) -> None:
    module, data, _ = source_fusion(name)
    assert module.transfer.gauges() == {}
    module.network(next(iter(data.train_dataloader())).batches)
    gauges = module.transfer.gauges()
    for task in module.tasks:
        own = [gauges[f"source/{task}/{source}"] for source in ("own", "near", "far")]
        assert sum(own) == pytest.approx(1.0)


def test_heads_read_the_mixture_and_balancers_the_trunk() -> None:
    module, data, borrowed = source_fusion("weights")
    batches, trace = next(iter(data.train_dataloader())).batches, ForwardTrace()
    outputs = module.network(batches, trace=trace)
    rows = trace.representations["shapes"]
    keys = {"shapes": ["shapes"]}
    read = borrowed({"shapes": rows}, module.network.views, keys, trace.encoded)["shapes"]
    assert torch.equal(module.network.heads["shapes"](read), outputs["shapes"])
    assert not torch.equal(read, rows)


def test_a_source_of_pictures_lends_to_tasks_on_pictures() -> None:
    module, data = run()
    source = SingleSourceOpener(source_of(*run(datasets={"shapes": images()})))
    assert SourceAttention({"seen": "a"}).setup(module, data, source) == [
        "shapes reads own and seen"
    ]
    assert isinstance(module.network.head_input, SourceFusion)
    assert list(module.network.head_input.mixers) == ["shapes"]
    module.network(next(iter(data.train_dataloader())).batches)


BAD: dict[str, tuple[Callable[[], FrozenSourceTransfer], str]] = {
    "no sources": (lambda: SourceAttention({}), "must name one source or more, .* got none"),
    "own": (lambda: SourceAttention({"own": "a"}), "none of them own, got own"),
    "task": (lambda: SourceAttention(TWO, ["note"]), r"no task 'note'; did you mean notes\?"),
    "no tasks": (
        lambda: WeightedFusion(TWO, []),
        "tasks must name the tasks that borrow, got none",
    ),
    "share": (lambda: WeightedFusion(TWO, own=1.0), r"own must be in \(0, 1\), got 1.0"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_named(name: str) -> None:
    make, message = BAD[name]
    module, data = run()
    with pytest.raises(UsageError, match=message):
        make().setup(module, data, SingleSourceOpener(source_of(module, data)))


def test_a_second_method_s_sources_are_no_silent_loss() -> None:
    module, data = run()
    first, second = SourceAttention({"near": "a"}), WeightedFusion({"far": "b"})
    with pytest.raises(UsageError, match=r"far can't be put into .* where another method's near"):
        Several({"one": first, "two": second}).setup(
            module, data, SingleSourceOpener(source_of(module, data))
        )


def test_a_network_s_own_head_input_is_not_replaced() -> None:
    module, data = run()
    module.network.head_input = Untouched()
    with pytest.raises(UsageError, match=r"near can't be put into .* another method's Untouched"):
        SourceAttention({"near": "a"}).setup(
            module, data, SingleSourceOpener(source_of(module, data))
        )


class Untouched(HeadInput):
    """Heads read the trunk's rows."""

    @property
    def node(self) -> dict[str, Any]:
        return {}

    def forward(self, rows: Mapping[str, Tensor], *_: Any) -> dict[str, Tensor]:
        return dict(rows)


def test_what_a_checkpoint_says_restores_the_sources() -> None:
    module, _data, fusion = source_fusion("attention")
    node = module.spec["learnt"][HEAD_INPUT]
    assert node == fusion.node
    assert node["_target_"] == public_name(SourceAttention)
    assert list(node["sources"]) == list(TWO)


def test_sources_must_read_what_the_tasks_do() -> None:
    module, data = run()
    seeing = SingleSourceOpener(source_of(*run(datasets={"shapes": images()})))
    with pytest.raises(UsageError, match=r"no source reads the rows of notes"):
        SourceAttention({"seen": "a"}, ["notes"]).setup(module, data, seeing)
    texts_alone = run(datasets={"notes": data.datasets["notes"]})
    with pytest.raises(UsageError, match=r"runs/a reads image, and this run text"):
        SourceAttention({"seen": "a"}).setup(*texts_alone, seeing)


def test_a_library_s_network_is_built_again_without_its_folder(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    from tests.models import timm_folder

    folder = timm_folder(tmp_path / "net", "test_resnet")
    source = SourceOpener("").open(str(folder))
    network, known = library_network(source), encoder_spec(source)
    for file in folder.iterdir():
        file.unlink()
    again = rebuild_network(known, ())
    again.load_state_dict(network.state_dict())
    rows = torch.rand(2, 1, 32, 32)
    network.eval()
    expected = network.encoder("image")(rows).pooled
    assert torch.equal(again.eval().encoder("image")(rows).pooled, expected)
