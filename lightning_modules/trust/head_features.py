"""What the heads of a network read, beside what they answer."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from lightning_modules.network import MultiTaskNetwork
from lightning_modules.task_network import TaskNetwork
from lightning_modules.views import RowView


@contextmanager
def head_features(network: TaskNetwork, tasks: Collection[str]) -> Iterator[dict[str, Tensor]]:
    """Give a dictionary that has, after each prediction, {task: what its head read, (N, D)}.

    Only of a single network, and of tasks that read one vector of a row.

    Args:
        network: that predicts inside.
        tasks: wanted.
    """
    found: dict[str, Tensor] = {}
    handles = []
    if isinstance(network, MultiTaskNetwork):
        for task in tasks:
            if isinstance(network.views[task], RowView):

                def keep(_: nn.Module, inputs: tuple[Tensor, ...], task: str = task) -> None:
                    found[task] = inputs[0].detach()

                handles.append(network.heads[task].register_forward_pre_hook(keep))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
