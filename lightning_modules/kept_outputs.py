"""What a network answers to the labelled rows of a split, kept as it is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor, distributed
from torch.nn import functional

from datamodules.batch import Batch
from lightning_modules.distributed import is_distributed
from lightning_modules.trunks.base import Routes

WORD_FILL = {"output": 0.0, "target": -1.0}  # beyond a row's last word


class TaskOutputs(TypedDict):
    """A task's labelled rows: those of its first data set by rising number, then its second's.

    output: (N, ...) float32, as the head gives them; target: (N, ...), as metrics take them. Those
        of words are as wide as the longest row, with outputs of 0 and targets of -1 beyond the last
        word of a shorter one.
    rows: {data set: (n,) int64}, the rows' numbers, from 0.
    """

    output: Tensor
    target: Tensor
    rows: dict[str, Tensor]


Part = tuple[Tensor, Tensor, Tensor]  # rows' numbers (n,), outputs (n, ...), targets (n, ...)


class KeptOutputs:
    """Collects, batch by batch, what all tasks answer; rows in whatever order.

    Args:
        routes: {task: data sets}.
    """

    def __init__(self, routes: Routes) -> None:
        self.routes = routes
        self.parts: dict[tuple[str, str], list[Part]] = {}  # {(task, data set): some rows each}

    def add(
        self,
        batches: Mapping[str, Batch],
        task: str,
        output: Tensor,
        target: Tensor,
        present: Tensor,
    ) -> None:
        """Add a batch's rows of one task.

        Args:
            batches: {data set: rows}, of which ``index`` numbers the rows.
            task: its name.
            output: (N, ...); target: (N, ...); present: (N,) bool, True where there is a label.
        """
        start = 0
        for name in (one for one in self.routes[task] if one in batches):
            index = batches[name].index
            own = slice(start, start + len(index))
            start += len(index)
            found, mask = (output[own], target[own]), present[own]
            kept = (index[mask], found[0][mask].float(), found[1][mask])
            moved = [part.detach().cpu() for part in kept]
            self.parts.setdefault((task, name), []).append((moved[0], moved[1], moved[2]))

    def take(self) -> dict[str, TaskOutputs]:
        """Return {task: its rows} of all processes on the first one, of its own on others.

        A row that several processes had, as a sampler that pads hands it out, is there once.
        """
        own, self.parts = self.parts, {}
        gathered: list[Any] = [own]
        if is_distributed():
            first = distributed.get_rank() == 0
            everyone: list[Any] = [None] * distributed.get_world_size()
            distributed.gather_object(own, everyone if first else None)
            gathered = everyone if first else gathered
        found: dict[str, TaskOutputs] = {}
        for task, names in self.routes.items():
            by_name = {}
            for name in names:
                parts = [part for one in gathered for part in one.pop((task, name), ())]
                if parts:
                    by_name[name] = in_order(stacked(parts))
            if by_name:
                _, output, target = stacked(list(by_name.values()))
                rows = {name: index for name, (index, _, _) in by_name.items()}
                found[task] = {"output": output, "target": target, "rows": rows}
        return found


def stacked(parts: Sequence[Part]) -> Part:
    """Put rows under each other; those with fewer words are made as wide as the others."""
    if len(parts) == 1:
        return parts[0]
    index, outputs, targets = zip(*parts, strict=True)
    return (
        torch.cat(index),
        torch.cat(as_wide(outputs, WORD_FILL["output"])),
        torch.cat(as_wide(targets, WORD_FILL["target"])),
    )


def as_wide(parts: Sequence[Tensor], fill: float) -> list[Tensor]:
    """Make parts (n, W, ...) as wide as the widest."""
    if len({part.shape[1:2] for part in parts}) == 1:
        return list(parts)
    widest = max(part.shape[1] for part in parts)
    return [
        functional.pad(part, (*(0, 0) * (part.dim() - 2), 0, widest - part.shape[1]), value=fill)
        for part in parts
    ]


def in_order(part: Part) -> Part:
    """Return rows by rising number, each once."""
    numbers, first = np.unique(part[0].numpy(), return_index=True)
    place = torch.from_numpy(first)
    return torch.from_numpy(numbers), part[1][place], part[2][place]
