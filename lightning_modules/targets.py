"""A step's targets, by task, from all data sets that a task reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from datamodules.batch import Batch
from lightning_modules.trunks.base import Routes

Targets = Mapping[str, tuple[Tensor, Tensor]]  # {task: (targets (N, ...), present (N,))}


def targets_of(
    batches: Mapping[str, Batch], tasks: Sequence[str], routes: Routes
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return {task: (targets (N, ...), present (N,))} in the order of the task's route.

    Args:
        batches: {data set: rows}.
        tasks: those wanted, which have rows.
        routes: {task: data sets}.
    """
    found = {}
    for task in tasks:
        parts = [batches[name] for name in routes[task] if name in batches]
        targets = stacked([part.targets[task] for part in parts])
        found[task] = targets, torch.cat([part.present[task] for part in parts])
    return found


def stacked(targets: Sequence[Tensor]) -> Tensor:
    """Put the targets of several data sets under each other; those of words are padded with -1."""
    if len(targets) == 1:
        return targets[0]
    if targets[0].dim() == 2:
        widest = max(rows.shape[1] for rows in targets)
        targets = [functional.pad(r, (0, widest - r.shape[1]), value=-1) for r in targets]
    return torch.cat(list(targets))
