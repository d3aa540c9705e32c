"""What is seen between tasks, and that looking changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import seed_everything

from datamodules.batch import MixedBatch
from lightning_modules.callbacks.task_affinities import MeasureTaskAffinities, moved
from tests import tiny


def batch_of(data: tiny.MixedDataModule) -> MixedBatch:
    batch: MixedBatch = next(iter(data.train_dataloader()))
    return batch


def two_on_texts() -> tiny.MixedDataModule:
    notes = tiny.texts(other=tiny.labels(40, "abc"))
    tasks = {"first": tiny.task("notes"), "second": tiny.task("notes", target="other")}
    return tiny.ready({"notes": notes}, tasks)


def test_affinity_and_cosine_are_their_definitions() -> None:
    data = two_on_texts()
    module, batch = tiny.multitask(data), batch_of(data)
    watch = MeasureTaskAffinities(list(data.tasks), 1, lr=0.5)
    watch.look(module, batch)

    weights = list(module.network.shared_parameters())
    losses = list(module.network_losses(batch).values())
    before = [float(loss.detach()) for loss in losses]
    grads = [torch.autograd.grad(loss, weights, retain_graph=True) for loss in losses]
    one, other = (torch.cat([part.flatten() for part in parts]).double() for parts in grads)
    cosine = one @ other / (one.norm() * other.norm())
    assert watch.cosines[0][0, 1] == pytest.approx(float(cosine))
    assert watch.cosines[0][0, 0] == pytest.approx(1.0)
    for source in range(2):
        with torch.no_grad():
            for weight, part in zip(weights, grads[source], strict=True):
                weight -= 0.5 * part
            after = [float(loss.detach()) for loss in module.network_losses(batch).values()]
            for weight, part in zip(weights, grads[source], strict=True):
                weight += 0.5 * part
        for target in range(2):
            expected = 1 - after[target] / before[target]
            assert watch.affinities[0][source, target] == pytest.approx(expected, abs=1e-5)
    assert watch.affinities[0].diagonal().min() > 0  # a step on a task helps it


def test_looking_changes_nothing(tmp_path: Path) -> None:
    weights = []
    for every in (1, 1000):
        seed_everything(0, verbose=False)
        data = tiny.ready()
        module = tiny.multitask(data, dropout=0.5)
        watch = MeasureTaskAffinities(list(data.tasks), every, lr=0.1)
        tiny.trainer(tmp_path, [watch], max_steps=4).fit(module, datamodule=data)
        assert len(watch.affinities) == (4 if every == 1 else 1)
        weights.append(module.state_dict())
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_a_step_without_a_task_says_nothing_of_it() -> None:
    data = two_on_texts()
    watch = MeasureTaskAffinities(["first", "absent", "second"], 1, lr=0.1)
    watch.look(tiny.multitask(data), batch_of(data))
    known = ~watch.affinities[0].isnan()
    assert known.tolist() == [[True, False, True], [False] * 3, [True, False, True]]
    alone = tiny.ready({"notes": tiny.texts()}, {"first": tiny.task("notes")})
    watch.look(tiny.multitask(alone), batch_of(alone))
    assert len(watch.affinities) == 1  # one task has nothing to relate to


def test_weights_come_back_bit_for_bit() -> None:
    weight = torch.nn.Parameter(torch.tensor([0.1, 1e8]))
    before = weight.detach().clone()
    with pytest.raises(ZeroDivisionError), moved([weight], [torch.tensor([3.0, 0.3])], 0.7):
        assert not torch.equal(weight, before)
        raise ZeroDivisionError
    assert torch.equal(weight, before)
