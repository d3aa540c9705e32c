"""Frozen models beside a run."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from datamodules.mixed_datamodule import MixedDataModule
from datamodules.modalities.image import ImageModality
from lightning_modules.module import MultiTaskModule
from lightning_modules.source_models import SourceModel
from lightning_modules.transfer.adaptors import Adaptors
from lightning_modules.transfer.base import Transfer
from lightning_modules.transfer.frozen_model import FrozenModel
from lightning_modules.transfer.hints import Hints
from lightning_modules.transfer.init import Init
from lightning_modules.transfer.source_attention import SourceAttention
from lightning_modules.tuning.frozen import Frozen
from pipeline.transfer_sources import SourceOpener
from pollinate.errors import UsageError
from tests.lightning_modules.transfer.helpers import SingleSourceOpener, source_of
from tests.tiny import images, multitask, ready, texts

SCREEN = {"datasets": {"shapes": images()}}


@pytest.fixture
def run() -> tuple[MultiTaskModule, MixedDataModule]:
    data = ready()
    return multitask(data, dropout=0.5), data


@pytest.fixture
def teacher(run: tuple[MultiTaskModule, MixedDataModule]) -> FrozenModel:
    return FrozenModel(source_of(*run))


def batch_of(data: MixedDataModule) -> Any:
    return next(iter(data.train_dataloader()))


def test_it_sees_what_its_own_run_would(
    run: tuple[MultiTaskModule, MixedDataModule], teacher: FrozenModel
) -> None:
    module, data = run
    batches = batch_of(data).batches
    taught = teacher.predict(batches, {"notes": ["notes"], "shapes": ["shapes"]})
    module.eval()
    for task, output in module.network(batches).items():
        assert torch.equal(taught.outputs[task], output)
        assert torch.equal(module.network.heads[task](taught.representations[task]), output)
    found = teacher.features("image", batches)
    assert found.keys() == {"shapes"}
    encoded = module.network.encoder("image")(batches["shapes"].inputs["image"])
    assert torch.equal(found["shapes"].pooled, encoded.pooled)


def test_nobody_wakes_trains_or_saves_it(teacher: FrozenModel) -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.teacher = teacher

    holder = Holder().train()
    assert not list(holder.parameters())
    assert not holder.state_dict()
    assert not any(part.training for part in teacher.network.modules())
    assert not any(weight.requires_grad for weight in teacher.network.parameters())
    assert deepcopy(holder).teacher is teacher


def test_nothing_of_it_has_a_gradient(
    run: tuple[MultiTaskModule, MixedDataModule], teacher: FrozenModel
) -> None:
    batches = batch_of(run[1]).batches
    assert not teacher.features("text", batches)["notes"].pooled.requires_grad
    assert not teacher.predict(batches, {"notes": ["notes"]}).outputs["notes"].requires_grad


def test_rows_of_64_bits_come_in_its_own_type(
    run: tuple[MultiTaskModule, MixedDataModule], teacher: FrozenModel
) -> None:
    batches = batch_of(run[1]).batches
    batches["shapes"].inputs["image"] = batches["shapes"].inputs["image"].double()
    assert teacher.features("image", batches)["shapes"].pooled.dtype == torch.float32


def test_a_step_without_its_rows_asks_nothing(teacher: FrozenModel) -> None:
    assert teacher.features("image", {}) == {}
    assert teacher.predict({}, {"notes": ["notes"]}).outputs == {}


def other(**options: Any) -> tuple[MultiTaskModule, MixedDataModule]:
    data = ready(**options)
    return multitask(data), data


def test_a_task_that_it_lacks_is_named(
    run: tuple[MultiTaskModule, MixedDataModule], teacher: FrozenModel
) -> None:
    with pytest.raises(UsageError, match=r"runs/a has no task 'note'; did you mean notes\?"):
        teacher.require_task("note", ["notes"], *run)


def test_a_modality_that_it_lacks_is_named(run: tuple[MultiTaskModule, MixedDataModule]) -> None:
    seeing = FrozenModel(source_of(*other(**SCREEN)))
    with pytest.raises(UsageError, match=r"runs/a doesn't read text; it reads image"):
        seeing.require_encoder("text", *run)
    with pytest.raises(UsageError, match=r"doesn't read text .* the data set notes has them"):
        seeing.require_task("shapes", ["notes"], *run)


def test_another_tokenizer_is_named(teacher: FrozenModel) -> None:
    mine = other(datasets={"notes": texts(text=["quite other words"] * 40)})
    with pytest.raises(UsageError, match=r"tokenizer is .* data\.text\.tokenizer=runs/a"):
        teacher.require_encoder("text", *mine)


def test_another_size_is_named(
    run: tuple[MultiTaskModule, MixedDataModule], teacher: FrozenModel
) -> None:
    teacher.modalities = {"image": ImageModality([9, 9], channels=1)}
    with pytest.raises(
        UsageError, match=r"size is \[9, 9\] there, \[8, 8\] here; set 'data.image.s"
    ):
        teacher.require_encoder("image", *run)
    with pytest.raises(UsageError, match=r"data\.image\.size=\[9,9\]"):
        teacher.require_task("shapes", ["shapes"], *run)


def test_kept_features_leave_nothing_to_see(
    run: tuple[MultiTaskModule, MixedDataModule], teacher: FrozenModel
) -> None:
    run[0].network.tunings["image"] = Frozen()
    with pytest.raises(UsageError, match=r"set encoder\.image\.tune\.cache=false"):
        teacher.require_encoder("image", *run)


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    source = SourceModel(str(tmp_path), "", {}, None, pytest.fail)
    with pytest.raises(UsageError, match=r"a folder of timm or transformers with its config.json"):
        FrozenModel(source)


def test_a_folder_of_timm_teaches(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    from tests.models import timm_folder

    folder = timm_folder(tmp_path / "resnet", "test_resnet")
    teacher, (module, data) = FrozenModel(SourceOpener("").open(str(folder))), other(**SCREEN)
    teacher.require_encoder("image", module, data)
    found = teacher.features("image", batch_of(data).batches)["shapes"]
    assert found.pooled.shape == (8, found.grid.shape[1])  # type: ignore[union-attr]  # resnets have a grid


def test_a_folder_of_transformers_has_a_tokenizer_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from tests.models import bert, with_weights

    folder = with_weights(bert(tmp_path / "bert"))
    teacher = FrozenModel(SourceOpener("").open(str(folder)))
    with pytest.raises(UsageError, match=r"brings the same: encoder/text=transformers"):
        teacher.require_encoder("text", *other(datasets={"notes": texts()}))


@pytest.mark.parametrize(
    "method",
    [
        Init("a"),
        Hints("a"),
        Adaptors({"notes": "a"}),
        SourceAttention({"x": "a"}),
    ],
    ids=lambda method: type(method).__name__,
)
def test_an_ensemble_has_no_features_or_weights(
    run: tuple[MultiTaskModule, MixedDataModule], method: Transfer
) -> None:
    source = source_of(*run)
    spec = {**(source.spec or {}), "config": {"members": [{}, {}]}}
    with pytest.raises(UsageError, match=r"runs/a is an ensemble, .* name one of its members"):
        method.setup(*run, SingleSourceOpener(replace(source, spec=spec)))
