"""BatchNorm's statistics after a merge."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from datamodules.batch import Batch
from datamodules.features import Features
from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.encoders.base import Encoder
from lightning_modules.merging.average import Average
from lightning_modules.merging.evaluator import (
    MergeEvaluator,
    recompute_statistics,
    stale_batch_norms,
)
from lightning_modules.merging.models import Models
from lightning_modules.merging.task_arithmetic import TaskArithmetic
from lightning_modules.module import MultiTaskModule
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.trunks.shared import SharedTrunk
from pollinate.errors import UsageError
from tests.tiny import DIM, images, multitask, ready, task

NORM = "encoders.image.layers.2"


class Normed(Encoder):
    """A linear map, a batch norm, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = DIM
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, DIM), nn.BatchNorm1d(DIM), nn.Dropout(0.5)
        )

    def forward(self, inputs: Tensor) -> Features:
        return Features(self.layers(inputs))


def network(seed: int = 0, tasks: tuple[str, ...] = ("shapes",)) -> MultiTaskNetwork:
    torch.manual_seed(seed)
    heads = {name: nn.Linear(DIM, 3) for name in tasks}
    routes = dict.fromkeys(tasks, ("shapes",))
    return MultiTaskNetwork({"image": Normed()}, SharedTrunk(list(tasks), DIM), heads, routes)


def merged(networks: list[MultiTaskNetwork], base: MultiTaskNetwork | None = None) -> Models:
    states = [{n: v.clone() for n, v in one.state_dict().items()} for one in networks]
    start = None if base is None else {n: v.clone() for n, v in base.state_dict().items()}
    return Models(
        [f"m{place}" for place in range(len(states))],
        [lambda one=one: one for one in states],  # type: ignore[misc]
        [name for name, _ in networks[0].named_parameters()],
        [["shapes"]] * len(states),
        None if start is None else lambda: start,
    )


@pytest.fixture(scope="module")
def data() -> MixedDataModule:
    return ready({"shapes": images(40)})


def test_statistics_are_those_of_the_batches() -> None:
    own = network()
    draws = torch.Generator().manual_seed(1)
    batches = [
        {
            "shapes": Batch(
                {"image": torch.rand(9, 1, 8, 8, generator=draws)}, {}, {}, torch.arange(9)
            )
        }
        for _ in range(3)
    ]
    before = {name: value.clone() for name, value in own.named_parameters()}
    recompute_statistics(own, [NORM], batches)
    layers = own.encoders["image"].layers
    seen = [layers[1](layers[0](one["shapes"].inputs["image"])) for one in batches]  # type: ignore
    means = torch.stack([rows.mean(dim=0) for rows in seen]).mean(dim=0)
    variances = torch.stack([rows.var(dim=0) for rows in seen]).mean(dim=0)
    norm = own.get_submodule(NORM)
    torch.testing.assert_close(norm.running_mean, means)
    torch.testing.assert_close(norm.running_var, variances)
    assert not own.training
    assert not norm.training
    assert norm.momentum == 0.1
    assert all(torch.equal(value, before[name]) for name, value in own.named_parameters())


def test_which_layers_statistics_no_longer_fit() -> None:
    first, second = network(0), network(1)
    second.get_submodule(NORM).running_mean.add_(1)  # type: ignore[operator,union-attr]
    assert stale_batch_norms(merged([first, second]), first) == [NORM]
    assert stale_batch_norms(merged([first]), first) == []  # nothing is merged
    assert (
        stale_batch_norms(merged([first, first]), first) == []
    )  # of two that are the same, neither
    assert stale_batch_norms(merged([second], base=first), first) == [NORM]
    frozen = network(1)  # never saw a row in training: its statistics are the first's
    assert stale_batch_norms(merged([first, frozen]), first) == []


def test_the_bench_scores_with_statistics_that_fit(data: MixedDataModule) -> None:
    module = trained_module(data)
    first, second = network(0), network(1)
    second.get_submodule(NORM).running_var.add_(3)  # type: ignore[operator,union-attr]
    models = merged([first, second])
    evaluator = MergeEvaluator(
        models, lambda: (data, module), stale_batch_norms(models, first), 2, torch.device("cpu")
    )
    state = Average().merge(models, evaluator).state
    whole = evaluator.with_fresh_statistics(state)
    norm = evaluator.network.get_submodule(NORM)
    assert norm.num_batches_tracked.item() == 2  # type: ignore[union-attr,operator]
    assert not torch.equal(whole[f"{NORM}.running_var"], state[f"{NORM}.running_var"])
    assert torch.equal(whole[f"{NORM}.running_var"], norm.running_var)  # type: ignore[arg-type]
    again = evaluator.with_fresh_statistics(state)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert 0 <= evaluator.score(state) <= 1
    kept = whole[f"{NORM}.running_var"].clone()
    evaluator.load_model(1)  # another model's statistics are no longer those of the result
    assert torch.equal(whole[f"{NORM}.running_var"], kept)
    assert not torch.equal(norm.running_var, kept)  # type: ignore[arg-type]


def test_scores_are_those_of_the_loaded_model(data: MixedDataModule) -> None:
    module = trained_module(data)
    models = merged([network(0), network(1)])
    evaluator = MergeEvaluator(models, lambda: (data, module), [], 2, torch.device("cpu"))
    for place in (0, 1):
        evaluator.load_model(place)
        own = network(place).eval()
        part = data.parts["valid"]["shapes"]
        rows = part.batch(torch.arange(part.size).numpy())
        answers = own({"shapes": rows})["shapes"].argmax(dim=1)
        expected = (answers == rows.targets["shapes"]).double().mean().item()
        assert evaluator.scores("valid")["shapes"]["accuracy"] == pytest.approx(expected)


def test_rows_are_drawn_once_each_and_alike(data: MixedDataModule) -> None:
    models = merged([network(0)])
    evaluator = MergeEvaluator(
        models, lambda: (data, trained_module(data)), [], 2, torch.device("cpu")
    )
    drawn = [
        torch.cat([one["shapes"].index for one in evaluator.draw("train", ["shapes"], 9, 4, seed)])
        for seed in (0, 0, 1)
    ]
    assert len(drawn[0].unique()) == 9
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_choice_needs_labels_in_the_validation_split() -> None:
    labels = ["a", "b"] * 20
    data = ready({"shapes": images(40, label=labels)}, {"shapes": task("shapes")})
    data.parts["valid"]["shapes"].present["shapes"][:] = False
    start = network(0)
    models = merged([network(0)], base=start)
    evaluator = MergeEvaluator(
        models, lambda: (data, trained_module(data)), [], 2, torch.device("cpu")
    )
    message = "chosen by scores on the validation split, and no task has a labelled row there"
    with pytest.raises(UsageError, match=message):
        TaskArithmetic([0.1, 0.2]).merge(models, evaluator)


def trained_module(data: MixedDataModule) -> MultiTaskModule:
    module = multitask(data)
    module.network = network(0)
    module.network.heads["shapes"] = nn.Linear(DIM, 3)
    return module
