"""The features that a network answers from, beside what it answers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from datamodules.features import Features
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.task_network import TaskNetwork
from lightning_modules.views import RowView

Groups = Mapping[str, Features]
Paths = Mapping[str, Sequence[str]]


@contextmanager
def row_features(network: TaskNetwork, tasks: Collection[str]) -> Iterator[dict[str, Tensor]]:
    """Give a dictionary that has, after each prediction, {task: its rows' features, (N, D)}.

    They are what the trunk is given: of the encoders, fused. A pre-trained encoder's tell rows
    apart that the task was never taught to, which what heads read does less. Only of a single
    network, and of tasks that read one vector of a row.

    Args:
        network: that predicts inside.
        tasks: wanted.
    """
    found: dict[str, Tensor] = {}
    if not isinstance(network, MultiTaskNetwork):
        yield found
        return
    views = network.views

    def keep(_: nn.Module, inputs: tuple[Groups, Paths]) -> None:
        groups, paths = inputs
        for task in tasks:
            if task in paths and isinstance(views[task], RowView):
                found[task] = torch.cat([groups[key].pooled.detach() for key in paths[task]])

    handle = network.trunk.register_forward_pre_hook(keep)
    try:
        yield found
    finally:
        handle.remove()
