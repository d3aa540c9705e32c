"""Rows, words and pairs, through the whole network."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from datamodules.batch import Batch
from datamodules.features import Features
from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.views import EncodedDataset, GridView
from pollinate.errors import UsageError
from tests.rows.row import DATA
from tests.shops import loaded
from tests.tiny import multitask, network, trainer


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> MixedDataModule:
    """All types of task on titles and photos, some of which lack."""
    folder = tmp_path_factory.mktemp("shop")
    spec = yaml.safe_load((DATA / "tasks.yaml").read_text())
    with (DATA / "shop.csv").open() as file:
        rows = list(csv.reader(file))
    for row in rows[1::5]:
        row[1] = row[-3] = row[-2] = ""  # no photo, so nothing lies on it
    with (folder / "shop.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    spec["datasets"]["shop"]["folder"] = str(DATA)
    spec["tasks"]["chained"] = {**spec["tasks"]["slots"], "transitions": True}
    return loaded(folder, spec)


def batch(data: MixedDataModule, rows: list[int]) -> Batch:
    return data.parts["train"]["shop"].batch(np.array(rows))


def test_rows_lack_photos(shop: MixedDataModule) -> None:
    whole = batch(shop, list(range(shop.sizes["shop"])))
    assert not whole.has["image"].all()
    assert len(whole.inputs["image"]) == whole.has["image"].sum()


def test_a_row_s_outputs_do_not_depend_on_the_others(shop: MixedDataModule) -> None:
    net = network(shop).eval()
    rows = list(range(10))
    together = net({"shop": batch(shop, rows)})
    for row in rows:
        alone = net({"shop": batch(shop, [row])})
        for task, output in alone.items():
            width = output.shape[1] if task in ("slots", "chained") else None
            found = together[task][row : row + 1]
            found = found[:, :width] if width else found
            assert torch.allclose(found, output, atol=1e-5), (task, row)


def test_cells_meet_their_own_place(shop: MixedDataModule) -> None:
    given = batch(shop, list(range(6)))
    has = given.has["image"]
    grid = torch.randn(int(has.sum()), 5, 2, 3)
    seen = EncodedDataset(
        Features(torch.zeros(6, 5)), {"image": Features(grid[:, :, 0, 0], grid=grid)}, given
    )
    (cells,) = GridView().groups(seen).values()
    assert torch.equal(cells.pooled[4], grid[0, :, 1, 1])
    output = GridView().output(torch.nn.Identity(), cells.pooled, [seen])
    assert torch.equal(output[has], grid)
    assert not output[~has].any()


def test_an_encoder_without_a_grid_is_refused(shop: MixedDataModule) -> None:
    seen = EncodedDataset(
        Features(torch.zeros(1, 5)), {"image": Features(torch.zeros(1, 5))}, batch(shop, [0])
    )
    with pytest.raises(UsageError, match=r"encoder.image gives no grid .* encoder/image=cnn"):
        GridView().groups(seen)


def test_words_meet_their_own_tokens(shop: MixedDataModule) -> None:
    one = batch(shop, [0])
    places = one.words["text"][0].tolist()
    assert places[0] == 0
    assert places == sorted(places)
    tokenizer = shop.modalities["text"].tokenizer  # type: ignore[attr-defined]
    ids = one.inputs["text"][0].tolist()
    words = shop.loaded["shop"].input("text", "train")[0].split()
    starts = [*places, len(ids)]
    for word, start, stop in zip(words, places, starts[1:], strict=True):
        assert tokenizer.decode(ids[start:stop]).strip() == word


def test_transitions_stand_before_the_words(shop: MixedDataModule) -> None:
    net = network(shop)
    head = net.heads["chained"]
    torch.nn.init.normal_(head.transitions)
    outputs = net({"shop": batch(shop, [0, 1])})
    words = outputs["slots"].shape[1]
    before, behind = outputs["chained"].split([len(head.transitions), words], dim=1)
    assert all(torch.equal(row, head.transitions) for row in before)
    assert torch.equal(behind.ne(0).any(-1), outputs["slots"].ne(0).any(-1))


def test_every_parameter_is_reached_by_a_row_that_lacks_a_photo(shop: MixedDataModule) -> None:
    net = network(shop)
    lacking = [
        row
        for row in range(12)
        if not bool(batch(shop, [row]).has.get("image", torch.ones(1)).all())
    ]
    outputs = net({"shop": batch(shop, lacking)})
    sum(output.sum() for output in outputs.values()).backward()
    assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []


def test_a_step_trains_all_types(shop: MixedDataModule, tmp_path: Path) -> None:
    module = multitask(shop)
    before = {name: value.clone() for name, value in module.named_parameters()}
    trainer(tmp_path, max_epochs=1, limit_val_batches=1).fit(module, datamodule=shop)
    moved = {
        name for name, value in module.named_parameters() if not torch.equal(value, before[name])
    }
    heads = {name.split(".")[2] for name in moved if name.startswith("network.heads.")}
    assert heads == set(shop.tasks)
    assert any(name.startswith("network.fusions.") for name in moved)
