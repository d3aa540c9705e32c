"""Runs that start from other models' weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Size

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.hooks import TrainingStep
from lightning_modules.module import MultiTaskModule
from lightning_modules.network import ForwardTrace
from lightning_modules.source_models import SourceModel
from lightning_modules.transfer.init import Init
from lightning_modules.transfer.l2_sp import L2SP
from lightning_modules.transfer.lwf import LwF
from lightning_modules.transfer.weight_matching import counterpart, match, parts_of, without_adapter
from pollinate.errors import UsageError
from tests.lightning_modules.transfer.helpers import SingleSourceOpener, source_of
from tests.tiny import DIM, images, labels, multitask, ready, task, texts

SMALL, LARGE = Size([2]), Size([3])


def test_names_and_shapes_decide() -> None:
    here = {"trunk.a": SMALL, "trunk.b": SMALL, "trunk.c": SMALL}
    found = match(here, {"trunk.a": SMALL, "trunk.b": LARGE, "heads.x": SMALL}, {})
    assert found.matched == {"trunk.a": "trunk.a"}
    assert found.mismatched == {"trunk.b": (LARGE, SMALL)}
    assert found.missing == ["trunk.c"]
    assert found.unexpected == ["heads.x"]


@pytest.mark.parametrize(
    ("name", "renamed", "expected"),
    [
        ("trunk.a", {}, "trunk.a"),
        ("trunk.a", {"trunk": "body"}, "body.a"),
        ("trunks.a", {"trunk": "body"}, "trunks.a"),
        ("heads.a.w", {"heads": "tops", "heads.a": "last"}, "last.w"),
        ("encoders.text.network.a", {"encoders.text.network": ""}, "a"),
        ("a", {"": "bert"}, "bert.a"),
    ],
)
def test_the_longest_part_renames(name: str, renamed: dict[str, str], expected: str) -> None:
    assert counterpart(name, renamed) == expected


@pytest.mark.parametrize(
    ("wrapped", "expected"),
    [
        ("query.base_layer.weight", "query.weight"),
        ("query.lora_A.default.weight", "query.lora_A.weight"),
        ("base_model.model.query.lora_A.weight", "query.lora_A.weight"),
        ("query.lora_magnitude_vector.default.weight", "query.lora_magnitude_vector"),
        ("base_model.model.query.lora_magnitude_vector", "query.lora_magnitude_vector"),
        ("default.bias", "default.bias"),
    ],
)
def test_adapters_wrap_no_name(wrapped: str, expected: str) -> None:
    assert without_adapter(wrapped) == expected


def test_parts_of_a_network() -> None:
    names = ["trunk.a.b", "encoders.text.token.weight", "heads.digit.weight", "trunk.c"]
    assert parts_of(names) == ["encoders.text", "heads.digit", "trunk"]


def run(seed: int, **options: Any) -> tuple[MultiTaskModule, MixedDataModule]:
    data = ready(**options)
    torch.manual_seed(seed)
    return multitask(data), data


@pytest.fixture
def source() -> SourceModel:
    return source_of(*run(1))


def init(
    module: MultiTaskModule, data: MixedDataModule, source: SourceModel, **kw: Any
) -> list[str]:
    return Init("runs/a", **kw).setup(module, data, SingleSourceOpener(source))


def test_all_is_taken_where_all_fits(source: SourceModel) -> None:
    module, data = run(2)
    (line,) = init(module, data, source)
    for name, value in module.network.state_dict().items():
        assert torch.equal(value, source.weights[name]), name
    count = sum(value.numel() for value in source.weights.values())
    assert line.startswith(f"from runs/a: loaded {len(source.weights)} tensors, {count:,} values")


def test_only_the_parts_that_are_named(source: SourceModel) -> None:
    module, data = run(2)
    before = {name: value.clone() for name, value in module.network.state_dict().items()}
    init(module, data, source, parts=["trunk"])
    for name, value in module.network.state_dict().items():
        expected = source.weights if name.startswith("trunk.") else before
        assert torch.equal(value, expected[name]), name


def test_a_map_takes_another_task_s_head() -> None:
    datasets = {"notes": texts(), "more": texts()}
    source = source_of(*run(1, datasets=datasets))
    module, data = run(2, datasets=datasets)
    init(module, data, source, parts=["heads.notes"], map={"heads.notes": "heads.more"})
    assert torch.equal(
        module.network.state_dict()["heads.notes.weight"], source.weights["heads.more.weight"]
    )


def test_a_head_of_other_classes_stays_as_it_is(source: SourceModel) -> None:
    other = {"notes": texts(label=labels(40, ("up", "down"))), "shapes": images()}
    module, data = run(2, datasets=other)
    before = module.network.heads["notes"].weight.clone()  # type: ignore[operator,union-attr]  # a linear layer
    lines = init(module, data, source, parts=["heads"])
    assert torch.equal(module.network.heads["notes"].weight, before)  # type: ignore[arg-type]  # as above
    assert "because their labels differ: heads.notes" in lines[1]


def test_a_resumed_run_opens_nothing(source: SourceModel) -> None:
    module, data = run(2)
    data.learnt = data.learnt_state()
    opener = SingleSourceOpener(source)
    assert Init("runs/a").setup(module, data, opener) == []
    assert opener.opened == 0


def test_another_library_s_names_are_guessed(source: SourceModel) -> None:
    own = "encoders.image."
    weights = {
        f"backbone.{n.removeprefix(own)}": v for n, v in source.weights.items() if n.startswith(own)
    }
    module, data = run(2)
    init(module, data, SourceModel("folder", "", weights, None, pytest.fail))
    for name, value in module.network.state_dict().items():
        if name.startswith(own):
            assert torch.equal(value, source.weights[name]), name


BAD: dict[str, tuple[Callable[[], tuple[MultiTaskModule, MixedDataModule]], Any, list[str]]] = {
    "part": (lambda: run(2), {"parts": ["trunks"]}, ["no part 'trunks'", "did you mean trunk?"]),
    "labels": (
        lambda: run(2, datasets={"notes": texts(label=labels(40, "xy")), "shapes": images()}),
        {"parts": ["heads.notes"]},
        ["heads.notes can't be taken from runs/a", "labels differ"],
    ),
    "tokenizer": (
        lambda: run(2, datasets={"notes": texts(text=["quite other words"] * 40)}),
        {},
        ["tokenizer of runs/a is not this run's", "data.text.tokenizer=runs/a"],
    ),
    "task": (
        lambda: run(2, datasets={"memo": texts()}, tasks={"memo": task("memo")}),
        {"parts": ["heads.memo"]},
        ["nothing of runs/a fits heads.memo", "heads.notes", "transfer.map={heads.memo: heads."],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_named(name: str, source: SourceModel) -> None:
    make, options, parts = BAD[name]
    module, data = make()
    with pytest.raises(UsageError) as error:
        init(module, data, source, **options)
    for part in parts:
        assert part in str(error.value)


def test_another_library_s_weights_need_their_encoder(source: SourceModel) -> None:
    foreign = replace(source, spec=None, weights={"layer1.weight": torch.ones(2)})
    with pytest.raises(UsageError, match=r"it has layer1. .* encoder/image=timm .*map={encoders."):
        init(*run(2), foreign)


def test_other_widths_are_named(source: SourceModel) -> None:
    module, data = run(2)
    wide = {**source.weights, "trunk.norm.weight": torch.ones(DIM + 1)}
    with pytest.raises(UsageError, match=r"trunk.norm.weight: \(9,\) there, \(8,\) here"):
        init(module, data, SourceModel("runs/a", "", wide, source.spec, pytest.fail))


def test_adapters_are_not_lost(source: SourceModel) -> None:
    module, data = run(2)
    name = next(n for n in source.weights if n.endswith("weight") and n.startswith("encoders."))
    stem = name.removesuffix(".weight")
    weights = {k: v for k, v in source.weights.items() if k != name}
    weights[f"{stem}.base_layer.weight"] = source.weights[name]
    weights[f"{stem}.lora_A.default.weight"] = torch.ones(2, 2)
    with pytest.raises(UsageError, match=r"pipeline.export checkpoint=runs/a merge=true"):
        init(module, data, SourceModel("runs/a", "", weights, source.spec, pytest.fail))


def test_l2_sp_by_hand(source: SourceModel) -> None:
    module, data = run(2)
    method = L2SP("runs/a", parts=["trunk"], alpha=0.5, beta=0.2)
    method.setup(module, data, SingleSourceOpener(source))
    trunk = [p for n, p in module.network.named_parameters() if n.startswith("trunk.")]
    others = [p for n, p in module.network.named_parameters() if not n.startswith("trunk.")]
    with torch.no_grad():
        for parameter in trunk:
            parameter += 0.1
    moved = sum(p.numel() for p in trunk) * 0.1**2
    expected = 0.25 * moved + 0.1 * sum(p.square().sum().item() for p in others)
    step = TrainingStep(next(iter(data.train_dataloader())), {}, ForwardTrace())
    regularization = method.losses(step).regularization
    assert regularization is not None
    assert regularization.item() == pytest.approx(expected, rel=1e-4)
    assert method.state_dict() == {}  # its source has the start; checkpoints needn't


def test_lwf_needs_old_tasks(source: SourceModel) -> None:
    module, data = run(2)
    with pytest.raises(UsageError, match=r"labels_of: runs/a"):
        LwF("runs/a").setup(module, data, SingleSourceOpener(source))
