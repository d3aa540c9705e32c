"""Several answers to the same rows: of an ensemble's members, or with dropout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from datamodules.batch import Batch
from lightning_modules.calibration.uncertainty_parts import UncertaintyParts
from lightning_modules.task_network import TaskNetwork
from lightning_modules.tasks.base import Task
from lightning_modules.trunks.base import Routes
from lightning_modules.trust.task_trust import TaskTrust
from pollinate.errors import UsageError


@contextmanager
def dropping(network: nn.Module) -> Iterator[int]:
    """Let a network's dropout, and nothing else, act as in training; give how many there are."""
    found = [one for one in network.modules() if isinstance(one, _DropoutNd) and one.p > 0]
    before = [one.training for one in found]
    for one in found:
        one.train()
    try:
        yield len(found)
    finally:
        for one, was in zip(found, before, strict=True):
            one.train(was)


def dropout_outputs(
    network: TaskNetwork, batches: Mapping[str, Batch], routes: Routes, times: int, seed: int = 0
) -> dict[str, list[Tensor]]:
    """Return {task: outputs (N, ...) of each time that each network answers with its dropout}.

    Source: Gal & Ghahramani 2016, "Dropout as a Bayesian approximation", section 4.

    Args:
        network: that predicts: one, or an ensemble.
        batches: {data set: rows}; routes: {task: data sets}.
        times: >= 1.
        seed: of what is dropped; the generators of the process stay as they are.

    Raises:
        UsageError: it has no dropout.
    """
    found: dict[str, list[Tensor]] = {}
    with torch.inference_mode(), torch.random.fork_rng(devices=[]), dropping(network) as count:
        if not count:
            raise UsageError(
                "the model has no dropout to answer with; leave dropout out, or ask an ensemble: "
                "pollinate merge method=ensemble"
            )
        torch.manual_seed(seed)
        for _ in range(times):
            own = network.member_outputs(network.encode(batches, routes), routes)
            for task, outputs in own.items():
                found.setdefault(task, []).extend(outputs)
    return found


def uncertainty_parts(
    task: Task, trust: TaskTrust, outputs: Sequence[Tensor]
) -> UncertaintyParts | None:
    """Return whence the uncertainty of M calibrated answers comes; None: none is stated.

    Args:
        task: whose outputs.
        trust: its calibration.
        outputs: of M models, (N, ...) each.
    """
    stated = [task.predictive_distribution(trust.calibrated(output)) for output in outputs]
    models = [one for one in stated if one is not None]
    return UncertaintyParts.of(models) if models else None


def states_uncertainty(task: Task, trust: TaskTrust) -> bool:
    """Say whether a task's calibrated outputs state a distribution of one answer a row."""
    sets = task.conformal()
    if task.view.prompted:  # a language model is asked once
        return False
    return sets is not None and (bool(sets.classes) or trust.calibrator is not None)
