"""Rows that each task sees through adapters of its own, through the whole network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from datamodules.batch import Batch
from datamodules.dataset import Dataset
from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.backward_engine import BackwardEngine
from lightning_modules.balancers.mgda import MGDA
from lightning_modules.balancers.shared_gradients import graph_leaves
from lightning_modules.encoders.transformer import Transformer
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.task_rows import encoding_keys, keys_of_task
from lightning_modules.tuning.task_lora import TaskLoRA
from pollinate.errors import UsageError
from tests.rows.groups import rows
from tests.rows.row import Row, ids
from tests.tiny import DIM, THIRDS, TinySource, labels, network, pixels, ready, task, texts, words


@pytest.fixture(scope="module")
def data() -> MixedDataModule:
    """Texts with two tasks, texts with pictures with one of these and another one."""
    columns = {"text": words(24), "image": pixels(24), "label": labels(24)}
    cards = Dataset(TinySource(**columns), inputs={"text": "text", "image": "image"}, split=THIRDS)
    return ready(
        {"notes": texts(kind=labels(40, "pqr")), "cards": cards},
        {
            "tone": task("notes", "cards"),
            "kind": task("notes", target="kind"),
            "card": task("cards"),
        },
    )


def routed(data: MixedDataModule, shared_rank: int = 2) -> MultiTaskNetwork:
    """A network whose text encoder alone has adapters that do something."""
    net = network(data)
    count = data.modalities["text"].encoder_arguments()["vocab_size"]
    torch.manual_seed(0)
    net.encoders["text"] = Calls(count, DIM, depth=1, heads=2, dropout=0.0)
    TaskLoRA(rank=2, shared_rank=shared_rank).apply(net.encoder("text"), list(net.heads))
    for name, parameter in net.encoders.named_parameters():
        if name.endswith("up.weight"):
            nn.init.normal_(parameter, std=0.3)
    return net.eval()


class Calls(Transformer):
    """Counts its calls and their rows."""

    def __init__(self, *args: int, **options: float) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]  # numbers of either kind
        self.seen: list[int] = []

    def forward(self, inputs: torch.Tensor):  # type: ignore[no-untyped-def]  # as in the base
        self.seen.append(len(inputs))
        return super().forward(inputs)


def step(data: MixedDataModule) -> dict[str, Batch]:
    return next(iter(data.train_dataloader())).batches


def test_each_task_gets_what_it_gets_alone_by_one_call(data: MixedDataModule) -> None:
    net, batches = routed(data), step(data)
    together = net(batches)
    sizes = {name: len(batch.index) for name, batch in batches.items()}
    assert net.encoder("text").seen == [2 * sizes["notes"] + 2 * sizes["cards"]]
    assert net.encoder("image").calls == 1
    assert {task: len(output) for task, output in together.items()} == {
        "tone": sizes["notes"] + sizes["cards"],
        "kind": sizes["notes"],
        "card": sizes["cards"],
    }
    for name, output in together.items():
        alone = net(batches, [name])[name]
        torch.testing.assert_close(output, alone, atol=1e-5, rtol=1e-5)
    other = net.predict(net.encode(batches, {"kind": ["notes"]}), {"kind": ["notes"]})
    torch.testing.assert_close(other["kind"], together["kind"], atol=1e-5, rtol=1e-5)


def test_tasks_differ_by_their_adapters_alone(data: MixedDataModule) -> None:
    net, batches = routed(data), step(data)
    seen = net.encode(batches, net.routes)
    assert seen.keys() == {"notes@tone", "cards@tone", "notes@kind", "cards@card"}
    tone, kind = seen["notes@tone"], seen["notes@kind"]
    assert tone.batch is kind.batch
    assert not torch.allclose(tone.fused.pooled, kind.fused.pooled, atol=1e-3)
    cards = seen["cards@tone"].by_modality, seen["cards@card"].by_modality
    assert cards[0]["image"] is cards[1]["image"]


def test_absent_tasks_get_no_gradient(data: MixedDataModule) -> None:
    net = routed(data)
    outputs = net(step(data), ["tone", "card"])
    sum(output.square().sum() for output in outputs.values()).backward()
    own = {name: p.grad for name, p in net.encoders.named_parameters() if ".own." in name}
    assert all(grad is None for name, grad in own.items() if ".own.kind." in name)
    assert all(grad is not None for name, grad in own.items() if ".own.kind." not in name)


@pytest.mark.parametrize("row", rows("trunk"), ids=ids)
def test_graphs_of_their_own_give_the_same(row: Row, data: MixedDataModule) -> None:
    net, batches = routed(data), step(data)
    net.trunk = row.build(tasks=list(net.heads), dim=DIM)
    net.eval()
    together, apart = net(batches), net(batches, separate_graphs=True)
    assert together.keys() == apart.keys()
    assert all(torch.allclose(together[t], apart[t], atol=1e-5) for t in together)
    shared = {id(parameter) for parameter in net.shared_parameters()}
    # tone and card meet in the pictures' encoder, kind meets neither
    reached = {name: {id(leaf) for leaf in graph_leaves(apart[name].sum())} for name in apart}
    assert reached["kind"] & reached["card"] <= shared
    assert reached["kind"] & reached["tone"] <= shared


def test_own_adapters_are_not_shared(data: MixedDataModule) -> None:
    net = routed(data)
    shared = {id(parameter) for parameter in net.shared_parameters()}
    for name, parameter in net.encoders.named_parameters():
        assert (id(parameter) in shared) == (".own." not in name), name


def test_tasks_on_one_data_set_share_no_features() -> None:
    data = ready(
        {"notes": texts(kind=labels(40, "pqr"))},
        {"tone": task("notes"), "kind": task("notes", target="kind")},
    )
    assert network(data).tasks_share_features()
    net = routed(data)
    assert not net.tasks_share_features()
    assert BackwardEngine(net, MGDA(list(net.heads))).level == "parameters"
    with pytest.raises(UsageError, match=r"that of text has adapters of each task's own; set"):
        BackwardEngine(net, MGDA(list(net.heads), level="features"))


def test_copies_by_hand() -> None:
    routes = {"a": ["x", "y"], "b": ["y", "z"]}
    found = encoding_keys(["x", "y"], ["y"], routes)
    assert found == {"x": ("x", ""), "y@a": ("y", "a"), "y@b": ("y", "b")}
    assert keys_of_task(found, "a", routes["a"]) == ["x", "y@a"]
    assert keys_of_task(found, "b", routes["b"]) == ["y@b"]
