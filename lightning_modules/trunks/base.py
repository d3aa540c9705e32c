"""The trunk contract: how tasks share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from lightning_modules.features import Features

Routes = Mapping[str, Sequence[str]]  # {task: the data sets whose rows it is predicted from}
Parts = dict[str, list[Tensor]]  # {task: one tensor of rows for each of its data sets}


class Trunk(nn.Module, ABC):
    """Turns the data sets' features into each task's representation."""

    @abstractmethod
    def forward(self, features: Mapping[str, Features], routes: Routes) -> Parts:
        """Return {task: (N_i, dim) of each of its data sets}.

        Tasks that share a representation get the same tensor: this is how others know it.

        Args:
            features: {data set: features of its rows}.
            routes: the tasks wanted; a task's data sets that have no features are left out.
        """

    @abstractmethod
    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that several tasks' gradients reach."""


def route(representations: Mapping[str, Tensor], routes: Routes) -> Parts:
    """Hand each task the rows of its data sets: {data set: (N, D)} -> {task: [(N, D), ...]}."""
    given = {
        task: [representations[name] for name in names if name in representations]
        for task, names in routes.items()
    }
    return {task: parts for task, parts in given.items() if parts}
