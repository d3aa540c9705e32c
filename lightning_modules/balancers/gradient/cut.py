"""Gradients of the features that the heads read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.gradient.ranks import Ranks, gramian
from lightning_modules.balancers.gradient.shared import Shared


class Cut(Shared):
    """Cuts a step's graph between the shared network and the heads: one backward in all.

    Every head reads a leaf of its own, so one backward of the heads gives each task's feature
    gradient; their combination then goes through the shared network once. The Gramian of the
    feature gradients stands for the parameters' (an upper bound of the objective of MGDA: Sener
    and Koltun 2018, section 3.3). Tasks that read other rows have orthogonal feature gradients.

    Args:
        ranks: the processes of the run, each with its own rows: features of different rows share
            no coordinate, so the processes' Gramians add up.
    """

    immediate = True  # the graph that the combination goes through belongs to this step

    def __init__(self, ranks: Ranks = Ranks()) -> None:  # noqa: B008
        self.ranks = ranks
        self._sources: list[Tensor] = []
        self._leaves: dict[tuple[str, int], Tensor] = {}

    def __call__(self, task: str, features: Tensor) -> Tensor:
        """Return the leaf that stands for shared features in a task's head."""
        number = self._number(features)
        key = (task, number)
        if key not in self._leaves:
            self._leaves[key] = features.detach().requires_grad_()
        return self._leaves[key]

    def differentiate(self, losses: Mapping[str, Tensor], slopes: Mapping[str, Tensor]) -> None:
        """Run the heads' backward, of all tasks at once."""
        torch.autograd.backward(
            list(losses.values()), [slopes[task].to(loss.dtype) for task, loss in losses.items()]
        )

    def gramian(self, tasks: Sequence[str]) -> Tensor:
        """Return the sum over sources and processes of the feature gradients' products."""
        total = torch.zeros(len(tasks), len(tasks), dtype=torch.float64)
        for number in range(len(self._sources)):
            here = [i for i, task in enumerate(tasks) if self._gradient(task, number) is not None]
            rows = [self._gradient(tasks[i], number) for i in here]
            if rows:
                own = gramian(torch.stack([row.flatten() for row in rows if row is not None]))
                total[torch.tensor(here)[:, None], torch.tensor(here)] += own.cpu()
        if self.ranks.size > 1:
            device = self._sources[0].device if self._sources else torch.device("cpu")
            total = self.ranks.sum_(total.to(device)).cpu() / self.ranks.size**2
        return total

    def jacobian(self, tasks: Sequence[str]) -> Tensor:
        """Return the feature gradients of this process's rows."""
        rows = [
            torch.cat(
                [
                    source.new_zeros(source.numel()) if gradient is None else gradient.flatten()
                    for source, gradient in zip(self._sources, self._row(task), strict=True)
                ]
            )
            for task in tasks
        ]
        return torch.stack(rows)

    def apply(self, tasks: Sequence[str], weights: Tensor) -> None:
        """Run the shared network's backward with the weighted sum of the feature gradients."""
        gradients: list[Tensor | None] = [None] * len(self._sources)
        for task, weight in zip(tasks, weights.tolist(), strict=True):
            for number, gradient in enumerate(self._row(task)):
                before = gradients[number]
                if gradient is not None and before is None:
                    gradients[number] = gradient * weight
                elif gradient is not None and before is not None:
                    before.add_(gradient, alpha=weight)
        self._send(gradients)

    def apply_vector(self, vector: Tensor) -> None:
        """Run the shared network's backward with the vector as its features' gradient."""
        parts = torch.split(vector, [source.numel() for source in self._sources])
        self._send([p.view_as(s) for p, s in zip(parts, self._sources, strict=True)])

    def _send(self, gradients: Sequence[Tensor | None]) -> None:
        pairs = [
            (source, gradient)
            for source, gradient in zip(self._sources, gradients, strict=True)
            if gradient is not None and source.requires_grad
        ]
        if pairs:
            torch.autograd.backward([s for s, _ in pairs], [g for _, g in pairs])
        self._sources, self._leaves = [], {}

    def _number(self, features: Tensor) -> int:
        for number, source in enumerate(self._sources):
            if source is features:
                return number
        self._sources.append(features)
        return len(self._sources) - 1

    def _row(self, task: str) -> list[Tensor | None]:
        return [self._gradient(task, number) for number in range(len(self._sources))]

    def _gradient(self, task: str, number: int) -> Tensor | None:
        leaf = self._leaves.get((task, number))
        return None if leaf is None else leaf.grad
