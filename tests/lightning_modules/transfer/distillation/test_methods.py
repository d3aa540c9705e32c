"""What each method of distillation has of its own."""

from __future__ import annotations

import pytest
import torch

from lightning_modules.transfer.annealed import Annealed
from lightning_modules.transfer.base import TransferStep
from lightning_modules.transfer.decoupled import Decoupled
from lightning_modules.transfer.dist import Dist
from lightning_modules.transfer.divergences.soft import soft_divergence
from lightning_modules.transfer.hinton import Hinton
from lightning_modules.transfer.source import Source
from pipeline.errors import UsageError
from tests.lightning_modules.transfer.distillation.conftest import Run
from tests.lightning_modules.transfer.schools import (
    answers,
    at_work,
    first_batch,
    losses,
    step_of,
)


def test_decoupled_takes_the_label_or_the_likeliest_class(run: Run, source: Source) -> None:
    module, data = run
    method = Decoupled("teacher", target=1.0, others=0.0, temperature=1.0, alpha=1.0)
    at_work(method, module, data, teacher=source)
    step = step_of(module, first_batch(data))
    own, theirs = step.outputs["kind"], answers(source, step.batch, "notes", "kind")
    # of two classes nothing is left but whether it is the target
    expected = soft_divergence(own, theirs, 1.0).mean().item()
    assert method.losses(step).by_task["kind"].item() == pytest.approx(expected, rel=1e-4)


def test_dist_learns_to_rank_rows(run: Run, source: Source) -> None:
    module, data = run
    at_work(Dist("teacher", alpha=1.0, temperature=1.0), module, data, teacher=source)
    batch = first_batch(data)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    found = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = losses(module.transfer, module, batch).by_task["kind"]  # type: ignore[arg-type]
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.5 * found[0]


def test_annealing_goes_from_the_teacher_to_the_labels(run: Run, source: Source) -> None:
    module, data = run
    inner = Hinton("teacher", alpha=0.8, temperature=1.0)
    at_work(inner, module, data, teacher=source)
    method, batch = Annealed(inner), first_batch(data)
    whole = inner.losses(step_of(module, batch)).by_task["kind"].item()
    for done, mix in ((0, 0.0), (5, 0.5), (10, 1.0)):
        found = method.losses(step_of(module, batch, number=done, total=10))
        assert found.by_task["kind"].item() == pytest.approx((1 - mix) * whole)
        assert found.labels["kind"] == pytest.approx((1 - mix) * (1 - 0.8) + mix)
        assert method.gauges()["annealed/labels"] == mix
    assert method.wanted(batch) == inner.wanted(batch)
    with pytest.raises(UsageError, match=r"transfer.steps must say when the method's part is gone"):
        method.losses(step_of(module, batch))
    short = Annealed(inner, steps=4)
    assert short.mix(TransferStep(batch, {}, step_of(module, batch).trace, number=8)) == 1.0


def test_weights_of_parts() -> None:
    with pytest.raises(UsageError, match="target and others must be >= 0, one > 0, got 0 and 0"):
        Decoupled("teacher", target=0, others=0)
    with pytest.raises(UsageError, match="inter and intra must be >= 0, one > 0, got -1 and 2"):
        Dist("teacher", inter=-1, intra=2)
    with pytest.raises(UsageError, match="steps must be >= 1 or null, got 0"):
        Annealed(Hinton("teacher"), steps=0)
