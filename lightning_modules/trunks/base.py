"""The trunk contract: how tasks share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from datamodules.features import Features
from pollinate.errors import UsageError
from pollinate.recipes import Buildable


def called_parts(module: nn.Module) -> Iterator[nn.Module]:
    """Yield a module's parts that are called: its children, out of lists and dicts of them."""
    for child in module.children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from called_parts(child)
        elif not isinstance(child, nn.ParameterList | nn.ParameterDict):
            yield child


Routes = Mapping[str, Sequence[str]]  # {task: the data sets whose rows it is predicted from}
Parts = dict[str, list[Tensor]]  # {task: one tensor of rows for each of its data sets}


class Trunk(nn.Module, metaclass=Buildable):
    """Turns the data sets' features into each task's representation.

    Attributes:
        same_for_all: whether tasks that read the same rows get the same tensor: only then do
            their gradients meet at the features.
        reads_tokens: whether it looks at more of ``Features`` than the pooled vectors.

    Args:
        tasks: names of all tasks of the run; kept in alphabetical order, so that the order in
            which they were given changes nothing.

    Examples:
        >>> import torch, pollinate as po
        >>> class Doubled(po.trunks.Trunk):
        ...     def forward(self, features, routes):
        ...         return {t: [2 * features[name].pooled for name in routes[t]] for t in routes}
        ...     def shared_parameters(self):
        ...         return iter(())
        >>> rows = {"reviews": po.Features(torch.tensor([[1.0, 2.0]]))}
        >>> Doubled(["mood", "stars"])(rows, {"stars": ["reviews"]})
        {'stars': [tensor([[2., 4.]])]}
    """

    given_later: ClassVar[frozenset[str]] = frozenset({"tasks", "dim"})

    same_for_all: ClassVar[bool] = False
    reads_tokens: ClassVar[bool] = False

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(sorted(tasks))

    @abstractmethod
    def forward(self, features: Mapping[str, Features], routes: Routes) -> Parts:
        """Return {task: (N_i, dim) of each of its data sets}.

        Args:
            features: {data set: features of its rows}.
            routes: the tasks wanted; a task's data sets that have no features are left out.
        """

    @abstractmethod
    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that several tasks' gradients can reach, and no others."""

    def called_parts(self) -> Iterator[nn.Module]:
        """Yield the parts that ``forward`` calls: each can be compiled, or sharded, for itself."""
        return called_parts(self)

    def begin_step(self, step: int) -> None:
        """Take note of how many optimizer steps were done; may be told repeatedly."""

    def penalty(self, tasks: Sequence[str]) -> Tensor | None:
        """Return a scalar that belongs to no task, or None; its gradient is added after balancing.

        Asked once after the forwards of a training batch, by all processes alike. The weights of
        called parts may be sharded: they are read with ``whole``.

        Args:
            tasks: those that the batch has; what belongs to others alone gets no gradient.
        """
        return None

    def gauges(self, tasks: Sequence[str]) -> dict[str, float]:
        """Return {name: number}: what the tasks take from where, over all processes.

        Names: ``gate/<task>/<source>``, its weight; ``load/<task>/<source>``, the share of the
        task's rows of which the source has the largest weight; ``attention/<task>/<other>``, how
        alike two tasks look at the same rows, in [0, 1].

        Args:
            tasks: those that the last training batch had.
        """
        return {}


def route(representations: Mapping[str, Tensor], routes: Routes) -> Parts:
    """Hand each task the rows of its data sets: {data set: (N, D)} -> {task: [(N, D), ...]}."""
    given = {
        task: [representations[name] for name in names if name in representations]
        for task, names in routes.items()
    }
    return {task: parts for task, parts in given.items() if parts}


RowStates = Mapping[str, Tensor]  # {name: (N, D)}, representations of the same rows
ROWS = "rows"  # the name of x


class PerTaskTrunk(Trunk):
    """z = common(x) of all rows together, then r_t = own_t(z) of the rows of task t.

    ``common`` has what several tasks' gradients can reach, whatever tasks a step has; ``own``
    alone may use what belongs to one task, so that nothing of an absent task gets a gradient.

    Examples:
        >>> import torch, pollinate as po
        >>> class Scaled(po.trunks.PerTaskTrunk):
        ...     def common(self, rows):
        ...         return {"rows": rows}
        ...     def own(self, task, states):
        ...         return len(task) * states["rows"]
        ...     def shared_parameters(self):
        ...         return iter(())
        >>> rows = {"reviews": po.Features(torch.ones(1, 2))}
        >>> Scaled(["mood", "stars"])(rows, {"mood": ["reviews"], "stars": ["reviews"]})
        {'mood': [tensor([[4., 4.]])], 'stars': [tensor([[5., 5.]])]}
    """

    @abstractmethod
    def common(self, rows: Tensor) -> RowStates:
        """Return what tasks read of all rows: (N, D) -> {name: (N, D)}."""

    @abstractmethod
    def own(self, task: str, states: RowStates) -> Tensor:
        """Return the task's representation of its n rows: {name: (n, D)} -> (n, D)."""

    def forward(self, features: Mapping[str, Features], routes: Routes) -> Parts:
        states = self.common(torch.cat([item.pooled for item in features.values()]))
        sizes = [len(item.pooled) for item in features.values()]
        pieces = {
            name: dict(zip(features, torch.split(rows, sizes), strict=True))
            for name, rows in states.items()
        }
        found: Parts = {}
        for task, names in routes.items():
            groups = [name for name in names if name in features]
            if groups:
                read = {
                    name: concat_rows([piece[g] for g in groups]) for name, piece in pieces.items()
                }
                own = [len(features[group].pooled) for group in groups]
                found[task] = list(torch.split(self.own(task, read), own))
        return found


def concat_rows(parts: list[Tensor]) -> Tensor:
    """Put the rows of several data sets under each other."""
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def require_at_least(low: int, **values: float) -> None:
    """Check options by their names."""
    for name, value in values.items():
        if value < low:
            raise UsageError(f"{name} must be >= {low}, got {value}")
