"""Gradients of the shared parameters themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.gradient.leaves import leaves
from lightning_modules.balancers.gradient.ranks import Ranks
from lightning_modules.balancers.gradient.shared import Shared
from pipeline.errors import UsageError


class SharedParameters(Shared):
    """One backward a task, through the graph of its own rows.

    Tasks whose rows went through the network apart cost no more than one backward of all rows;
    T tasks on the same rows cost T backwards of the shared part. Memory: T rows of P numbers.

    Args:
        parameters: those that the tasks share, P numbers in all.
        ranks: the processes of the run, each with the gradients of its own rows.

    Raises:
        UsageError: no parameter needs a gradient, or their dtypes differ.
    """

    immediate = False

    def __init__(self, parameters: Iterable[Tensor], ranks: Ranks = Ranks()) -> None:  # noqa: B008
        self.parameters = [p for p in parameters if p.requires_grad]
        dtypes = {p.dtype for p in self.parameters}
        if len(dtypes) != 1:
            raise UsageError(
                "balancing gradients needs shared parameters of one dtype that are trained, got "
                f"{len(self.parameters)} of {', '.join(map(str, dtypes)) or 'none'}"
            )
        self.ranks = ranks
        self.size = sum(p.numel() for p in self.parameters)
        self._own = {id(p) for p in self.parameters}
        self._block = self.parameters[0].new_empty(0, self.size)
        self._views: list[list[Tensor]] = []  # of each row of the block, by parameter
        self._rows: dict[str, int] = {}  # {task: row} that hold gradients now
        self._reached = [False] * len(self.parameters)

    def differentiate(self, losses: Mapping[str, Tensor], slopes: Mapping[str, Tensor]) -> None:
        """Run one backward a task."""
        self._reserve(len({*self._rows, *losses}))
        for number, (task, loss) in enumerate(losses.items()):
            alone = [leaf for leaf in leaves(loss) if id(leaf) not in self._own]
            found = torch.autograd.grad(
                loss,
                [*self.parameters, *alone],
                slopes[task].to(loss.dtype),
                retain_graph=number + 1 < len(losses),
                allow_unused=True,
            )
            self._add_row(task, found[: len(self.parameters)])
            accumulate(alone, found[len(self.parameters) :])

    def gramian(self, tasks: Sequence[str]) -> Tensor:
        """Return J J^T, each process working on a part of the columns."""
        return self.ranks.gramian(self._ordered(tasks)).cpu()

    def jacobian(self, tasks: Sequence[str]) -> Tensor:
        """Return the mean of the processes' rows."""
        return self.ranks.mean_(self._ordered(tasks).clone())

    def apply(self, tasks: Sequence[str], weights: Tensor) -> None:
        """Add w J of this process; the mean over processes is left to whoever averages."""
        factors, jacobian = weights.tolist(), self._ordered(tasks)
        total = jacobian[0] * factors[0]  # faster than a product of vector and matrix
        for factor, row in zip(factors[1:], jacobian[1:], strict=True):
            total.add_(row, alpha=factor)
        self.apply_vector(total)

    def apply_vector(self, vector: Tensor) -> None:
        """Add the vector to the ``.grad`` of the parameters that a task reached."""
        parts = torch.split(vector, [p.numel() for p in self.parameters])
        reached = zip(self.parameters, parts, self._reached, strict=True)
        found = [(p, part.view_as(p)) for p, part, flag in reached if flag]
        accumulate([p for p, _ in found], [part for _, part in found])
        self._rows = {}
        self._reached = [False] * len(self.parameters)

    def _reserve(self, rows: int) -> None:
        if rows > len(self._block):
            grown = self._block.new_empty(rows, self.size)
            grown[: len(self._block)] = self._block
            self._block = grown
            sizes = [p.numel() for p in self.parameters]
            self._views = [
                [
                    v.view_as(p)
                    for v, p in zip(torch.split(row, sizes), self.parameters, strict=True)
                ]
                for row in grown
            ]

    def _add_row(self, task: str, gradients: Sequence[Tensor | None]) -> None:
        fresh = task not in self._rows
        views = self._views[self._rows.setdefault(task, len(self._rows))]
        for number, (view, gradient) in enumerate(zip(views, gradients, strict=True)):
            if gradient is not None:
                self._reached[number] = True
                view.copy_(gradient) if fresh else view.add_(gradient)
            elif fresh:
                view.zero_()

    def _ordered(self, tasks: Sequence[str]) -> Tensor:
        """Return the rows of the tasks: a view where they lie in this order."""
        numbers = [self._rows[task] for task in tasks]
        if numbers == list(range(len(tasks))):
            return self._block[: len(tasks)]
        return self._block[numbers]


def accumulate(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Add to ``.grad`` as a backward would: what gets None keeps what it has."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            before = parameter.grad
            parameter.grad = gradient if before is None else before + gradient
