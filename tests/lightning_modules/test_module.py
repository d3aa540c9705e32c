"""One network, many tasks, one gradient."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from datamodules.batch import MixedBatch
from datamodules.loaders import EpochPlan, RankSlice, TrainingSteps
from datamodules.mixed_datamodule import MixedDataModule
from datamodules.samplers.uniform import Uniform
from lightning_modules.balancers.mgda import MGDA
from lightning_modules.balancers.uncertainty import Uncertainty
from lightning_modules.hooks import AddedLosses, TrainingStep
from lightning_modules.module import MultiTaskModule
from lightning_modules.transfer.none import NoTransfer
from lightning_modules.trunks.shared import SharedTrunk
from tests.rows.groups import rows
from tests.rows.row import Row, ids
from tests.tiny import DIM, labels, multitask, plan, ready, task, texts, trainer

RARE = ["no" if row == 3 else "yes" if row == 8 else None for row in range(200)]


def rare_data(*tasks: str) -> MixedDataModule:
    """100 training rows, of which one or two have a label of task ``rare``; 5 rows a step."""
    specs = {"often": task("notes"), "rare": task("notes", target="rare")}
    data = {"notes": texts(200, rare=RARE)}
    data["notes"].split = {"column": "part"}
    data["notes"].source.columns["part"] = ["train"] * 100 + ["valid"] * 50 + ["test"] * 50  # type: ignore[attr-defined]  # in memory
    return ready(data, {name: specs[name] for name in tasks}, Uniform(5), dropout=0.0)


def as_rank(module: MultiTaskModule, world: int = 1) -> MultiTaskModule:
    """A module outside a trainer, as one of ``world`` processes."""
    module._trainer = SimpleNamespace(  # type: ignore[assignment]  # all that a step asks
        state=SimpleNamespace(fn=None),
        world_size=world,
        current_epoch=0,
        global_step=0,
        accumulate_grad_batches=1,
    )
    return module


def gradients(module: MultiTaskModule, step: MixedBatch) -> dict[str, Tensor]:
    module.zero_grad()
    module.backward(module.training_step(step, 0))
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


def first_step(data: MixedDataModule, rank: int = 0, world: int = 1) -> MixedBatch:
    plan = EpochPlan(data.sampler, data.sizes)
    return TrainingSteps(data.parts["train"], plan, 0, RankSlice(rank, world))[0]


def test_a_task_s_loss_is_the_mean_over_its_labelled_rows() -> None:
    data = rare_data("often", "rare")
    module = as_rank(multitask(data))
    steps = TrainingSteps(data.parts["train"], plan({"notes": 5}), 0, RankSlice())
    step = next(s for s in map(steps.__getitem__, range(20)) if s.labelled["rare"])
    objective = module.training_step(step, 0)
    batch, outputs = step.batches["notes"], module.network(step.batches)
    for name, definition in module.tasks.items():
        mask = batch.present[name]
        expected = definition.loss(outputs[name][mask], batch.targets[name][mask]).mean()
        assert torch.allclose(module.losses[name], expected)
    assert torch.allclose(objective, sum(module.losses.values()))


@pytest.mark.parametrize("world", [2, 3, 8])
@pytest.mark.parametrize("balancer", [Uncertainty, None])
def test_mean_of_ranks_gradients_is_the_whole_gradient(world: int, balancer: Any) -> None:
    data = ready()
    options = {} if balancer is None else {"balancer": balancer}
    whole = gradients(as_rank(multitask(data, **options)), first_step(data))
    ranks = [
        gradients(as_rank(multitask(data, **options), world), first_step(data, rank, world))
        for rank in range(world)
    ]
    for name, gradient in whole.items():
        mean = sum(rank.get(name, torch.zeros_like(gradient)) for rank in ranks) / world
        assert torch.allclose(mean, gradient, atol=1e-6), name


@pytest.mark.parametrize("row", rows("trunk"), ids=ids)
def test_mean_of_ranks_gradients_is_the_whole_gradient_for_every_trunk(row: Row) -> None:
    # the mean over all processes' rows needs processes: its own test has it
    options = {"entropy": 0.0, "unused": 0.0} if row.option == "dselect_k" else {}
    data, found = ready(dropout=0.0), []
    for rank, world in ((0, 1), (0, 3), (1, 3), (2, 3)):
        module = as_rank(multitask(data), world)
        torch.manual_seed(0)
        trunk = Row(row.group, row.option, None, None, {"dropout": 0.0} | options)
        module.network.trunk = trunk.build(tasks=list(module.tasks), dim=DIM)
        found.append(gradients(module, first_step(data, rank, world)))
    whole, *ranks = found
    for name, gradient in whole.items():
        mean = sum(rank.get(name, torch.zeros_like(gradient)) for rank in ranks) / 3
        assert torch.allclose(mean, gradient, atol=1e-6), name


class HeadMoves(Callback):
    """Notes for every optimizer step whether the head of ``rare`` had labels, and moved."""

    def __init__(self) -> None:
        self.labelled = 0
        self.moved: list[tuple[bool, bool]] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.before = self.head(pl_module)
        self.step = 0

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: MixedBatch, batch_idx: int
    ) -> None:
        self.labelled += batch.labelled["rare"]
        if trainer.global_step > self.step:
            after = self.head(pl_module)
            self.moved.append((self.labelled > 0, not torch.equal(self.before, after)))
            self.before, self.step, self.labelled = after, trainer.global_step, 0

    @staticmethod
    def head(module: Any) -> Tensor:
        return torch.cat([p.detach().flatten() for p in module.network.heads["rare"].parameters()])


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("balancer", [Uncertainty, None])
@pytest.mark.parametrize("tasks", [("rare",), ("often", "rare")])
def test_a_head_moves_only_in_steps_that_have_its_labels(
    accumulate: int, balancer: Any, tasks: tuple[str, ...], tmp_path: Path
) -> None:
    data, moves = rare_data(*tasks), HeadMoves()
    # without momentum, a gradient of zero would still move a weight: by its decay
    optimizer = partial(torch.optim.AdamW, lr=0.1, weight_decay=0.5, betas=(0.0, 0.9))
    module = multitask(data, optimizer=optimizer, **({"balancer": balancer} if balancer else {}))
    fit = trainer(tmp_path, [moves], max_epochs=1, accumulate_grad_batches=accumulate)
    fit.fit(module, datamodule=data)
    assert len(moves.moved) == 20 // accumulate
    assert {labelled for labelled, _ in moves.moved} == {True, False}
    assert all(labelled == moved for labelled, moved in moves.moved)
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())


def test_a_step_without_labels_moves_nothing() -> None:
    data = rare_data("rare")
    module = as_rank(multitask(data))
    steps = TrainingSteps(data.parts["train"], plan({"notes": 5}), 0, RankSlice())
    step = next(s for s in map(steps.__getitem__, range(20)) if not s.labelled["rare"])
    assert module.training_step(step, 0).item() == 0.0
    assert gradients(module, step) == {}


class Adds(NoTransfer):
    """A transfer method that adds 2 to one task's loss and 3 to the objective."""

    def losses(self, step: TrainingStep) -> AddedLosses:
        return AddedLosses({"notes": torch.tensor(2.0)}, torch.tensor(3.0))


def test_transfer_adds_before_and_after_balancing() -> None:
    data = ready()
    halves = lambda tasks: Uncertainty(tasks, initial=torch.log(torch.tensor(2.0)).item())  # noqa: E731
    plain, with_transfer = (as_rank(multitask(data, balancer=halves)) for _ in range(2))
    with_transfer.transfer = Adds()
    step = first_step(data)
    difference = with_transfer.training_step(step, 0) - plain.training_step(step, 0)
    assert difference.item() == pytest.approx(2 / 2 + 3, abs=1e-5)
    change = with_transfer.losses["notes"] - plain.losses["notes"]
    assert change.item() == pytest.approx(2, abs=1e-5)


class Costly(SharedTrunk):
    """A trunk with a penalty: 5 times the sum of the norm's biases plus 7."""

    def begin_step(self, step: int) -> None:
        self.step = step

    def penalty(self, tasks: Sequence[str]) -> Tensor | None:
        return 5 * self.norm.bias.sum() + 7 if tasks else None


@pytest.mark.parametrize("balancer", [Uncertainty, partial(MGDA, level="parameters")])
def test_the_trunk_s_penalty_comes_after_balancing(balancer: Any) -> None:
    data = ready()
    step, modules = first_step(data), [as_rank(multitask(data, balancer)) for _ in range(2)]
    plain, costly = modules
    trunk = Costly(list(costly.tasks), DIM, dropout=0.0)
    trunk.load_state_dict(plain.network.trunk.state_dict())
    costly.network.trunk = trunk
    plain_gradients, found = (gradients(module, step) for module in modules)
    for name, gradient in plain_gradients.items():
        more = 5.0 if name == "network.trunk.norm.bias" else 0.0
        assert torch.allclose(found[name], gradient + more, atol=1e-5), name
    assert trunk.step == 0
    costly.transfer = Adds()
    costly.training_step(step, 0)
    assert costly.regularization.item() == pytest.approx(7 + 3)  # type: ignore[union-attr]


def test_rows_seen_and_scores_are_gathered() -> None:
    data = ready()
    module, step = as_rank(multitask(data)), first_step(data)
    for _ in range(3):
        module.training_step(step, 0)
    assert module.progress.rows == {"notes": 12, "shapes": 12}
    scores = module.progress.take_scores()
    outputs = module.network(step.batches)
    for name, score in scores.items():
        hits = outputs[name].argmax(dim=1) == step.batches[name].targets[name]
        assert score == pytest.approx(hits.float().mean().item())
    assert module.progress.take_scores() == {}


def test_rank_state_round_trip() -> None:
    data = ready()
    one, other = as_rank(multitask(data)), as_rank(multitask(data))
    one.training_step(first_step(data), 0)
    other.load_rank_state(one.rank_state())
    for module in (one, other):
        module.training_step(first_step(data, 1, 2), 0)
    assert one.progress.rows == other.progress.rows
    assert one.progress.losses.take() == other.progress.losses.take()
    assert one.progress.take_scores() == other.progress.take_scores()


def test_evaluation_counts_labelled_rows_of_every_data_set() -> None:
    some = [label if row % 4 < 2 else None for row, label in enumerate(labels(40))]
    data = ready({"notes": texts(label=some), "more": texts()}, {"tone": task("notes", "more")})
    module = as_rank(multitask(data))
    for step in data.val_dataloader():
        module.validation_step(step, 0)
    numbers, matrices = module.scores.take()
    present = [part.present["tone"] for part in data.parts["valid"].values()]
    assert numbers.keys() == {"tone"}
    assert 10 < matrices["tone"].sum() == torch.cat(present).sum() < 20
