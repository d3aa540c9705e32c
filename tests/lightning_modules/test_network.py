"""Rows in, every task's output out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.batch import Batch
from datamodules.features import Features
from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.balancers.shared_gradients import graph_leaves
from lightning_modules.building import restore_head_input
from lightning_modules.network import (
    ForwardTrace,
    HeadInput,
    MultiTaskNetwork,
    RestoresHeadInput,
    concat_inputs,
    split_features,
)
from lightning_modules.views import EncodedDataset, View
from pollinate.errors import UsageError
from pollinate.namespaces import public_name
from tests.rows.groups import rows
from tests.rows.row import Row, ids
from tests.tiny import DIM, images, network, ready, task, texts


@pytest.fixture(scope="module")
def data() -> MixedDataModule:
    """Two data sets of texts, one of images; a task of both texts."""
    return ready(
        {"notes": texts(), "more": texts(), "shapes": images()},
        {"tone": task("notes", "more"), "note": task("notes"), "shape": task("shapes")},
    )


def step(data: MixedDataModule, *names: str) -> dict[str, Batch]:
    batches = next(iter(data.train_dataloader())).batches
    return {name: batches[name] for name in names or batches}


def test_every_task_gets_its_rows(data: MixedDataModule) -> None:
    batches = step(data)
    sizes = {name: len(batch.index) for name, batch in batches.items()}
    outputs = network(data)(batches)
    assert {name: tuple(output.shape) for name, output in outputs.items()} == {
        "tone": (sizes["notes"] + sizes["more"], 2),
        "note": (sizes["notes"], 2),
        "shape": (sizes["shapes"], 3),
    }


def test_rows_of_one_modality_are_encoded_in_one_call(data: MixedDataModule) -> None:
    net = network(data)
    net(step(data))
    assert {name: encoder.calls for name, encoder in net.encoders.items()} == {
        "text": 1,
        "image": 1,
    }


def test_an_encoder_without_rows_is_not_called(data: MixedDataModule) -> None:
    net = network(data)
    outputs = net(step(data, "shapes"))
    assert outputs.keys() == {"shape"}
    assert net.encoders["text"].calls == 0


def test_a_data_set_alone_gives_what_it_gives_among_others(data: MixedDataModule) -> None:
    net = network(data).eval()
    together, alone = net(step(data)), net(step(data, "notes"))
    assert torch.allclose(together["note"], alone["note"], atol=1e-6)
    assert torch.allclose(together["tone"][: len(alone["tone"])], alone["tone"], atol=1e-6)


def test_only_wanted_tasks_are_predicted(data: MixedDataModule) -> None:
    assert network(data)(step(data), ["shape"]).keys() == {"shape"}


@pytest.mark.parametrize("row", rows("trunk"), ids=ids)
def test_tasks_in_graphs_of_their_own_are_predicted_the_same(
    row: Row, data: MixedDataModule
) -> None:
    net = network(data)
    net.trunk = row.build(tasks=list(net.heads), dim=DIM)
    net.eval()
    together, apart = net(step(data)), net(step(data), separate_graphs=True)
    assert together.keys() == apart.keys()
    assert all(torch.allclose(together[t], apart[t], atol=1e-5) for t in together)
    shared = {id(parameter) for parameter in net.shared_parameters()}
    of_one, of_other = ({id(p) for p in graph_leaves(apart[t].sum())} for t in ("shape", "tone"))
    assert of_one & of_other <= shared


def test_shared_parameters_are_encoders_and_trunk(data: MixedDataModule) -> None:
    net = network(data)
    shared = {id(parameter) for parameter in net.shared_parameters()}
    found = {name for name, parameter in net.named_parameters() if id(parameter) not in shared}
    assert found
    assert all(name.startswith("heads.") for name in found)


def test_names_of_parts_make_names_of_weights(data: MixedDataModule) -> None:
    names = {".".join(name.split(".")[:2]) for name in network(data).state_dict()}
    parts = {"encoders.text", "encoders.image", "heads.tone", "heads.note", "heads.shape"}
    assert parts < names
    assert all(name in parts or name.startswith("trunk.") for name in names)


def test_join_pads_token_ids() -> None:
    joined = concat_inputs([torch.ones(2, 3, dtype=torch.long), torch.ones(1, 5, dtype=torch.long)])
    assert joined.tolist() == [[1, 1, 1, 0, 0]] * 2 + [[1] * 5]


def test_join_concatenates_images() -> None:
    assert concat_inputs([torch.ones(2, 1, 4, 4), torch.zeros(3, 1, 4, 4)]).shape == (5, 1, 4, 4)


def test_part_undoes_the_join() -> None:
    whole = Features(
        torch.arange(6.0).reshape(3, 2), torch.zeros(3, 4, DIM), None, torch.ones(3, 4).bool()
    )
    first, second = split_features(whole, [1, 2])
    assert torch.equal(torch.cat([first.pooled, second.pooled]), whole.pooled)
    assert (len(first.sequence), len(second.sequence)) == (1, 2)
    assert first.grid is second.grid is None
    assert second.mask.shape == (2, 4)


def test_heads_are_made_for_the_classes(data: MixedDataModule) -> None:
    net: MultiTaskNetwork = network(data)
    assert {name: head.out_features for name, head in net.heads.items()} == {
        "tone": 2,
        "note": 2,
        "shape": 3,
    }


class Doubled(HeadInput, RestoresHeadInput):
    """Heads of the named tasks read twice the trunk's rows."""

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = list(tasks)

    @property
    def node(self) -> dict[str, Any]:
        return {"_target_": public_name(Doubled), "tasks": self.tasks}

    @classmethod
    def restore_head_input(cls, known: Mapping[str, Any], allow: Sequence[str]) -> Doubled:
        return cls(**known)

    def forward(
        self,
        rows: Mapping[str, Tensor],
        views: Mapping[str, View],
        keys: Mapping[str, Sequence[str]],
        encoded: Mapping[str, EncodedDataset],
    ) -> dict[str, Tensor]:
        assert keys == {task: list(names) for task, names in ROUTES.items() if task in rows}
        return {t: 2 * own if t in self.tasks else own for t, own in rows.items()}


ROUTES = {"tone": ("notes", "more"), "note": ("notes",), "shape": ("shapes",)}


def test_what_stands_between_trunk_and_heads_is_what_heads_read(data: MixedDataModule) -> None:
    net, batches, trace = network(data).eval(), step(data), ForwardTrace()
    plain = net(batches, trace=trace)
    net.head_input = Doubled(["tone"])
    found = net(batches)
    assert torch.equal(found["tone"], net.heads["tone"](2 * trace.representations["tone"]))
    assert torch.equal(found["shape"], plain["shape"])


def test_its_node_is_all_that_is_needed_to_build_it_again() -> None:
    again = restore_head_input(Doubled(["tone"]).node, ["tests"])
    assert isinstance(again, Doubled)
    assert again.tasks == ["tone"]
    with pytest.raises(UsageError, match="is refused; allowed are classes of"):
        restore_head_input({"_target_": "pollinate.trunks.SharedTrunk"}, [])
