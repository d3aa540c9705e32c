"""Statistics of gates and attention: how much each task takes of what is shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from lightning_modules.distributed import all_reduce_sum


class GateStats:
    """Weights that tasks gave to sources in the last training step.

    A task's weights are replaced whenever it has rows again, so that nothing has to be resumed.

    Args:
        kinds: first part of the names of mean weights, and of shares of the largest ones.
    """

    def __init__(self, kinds: tuple[str, str] = ("gate", "load")) -> None:
        self._kinds = kinds
        self._noted: dict[str, tuple[Sequence[str], Tensor]] = {}

    @property
    def tasks(self) -> list[str]:
        """Those that had rows so far."""
        return list(self._noted)

    def note(self, task: str, sources: Sequence[str], weights: Tensor) -> None:
        """Take note of weights (n, E) of n rows; not in validation, which has no gradients."""
        if torch.is_grad_enabled():
            given = weights.detach()
            largest = functional.one_hot(given.argmax(dim=1), len(sources))
            rows = torch.full((len(sources),), len(given), device=given.device)
            totals = torch.stack([given.sum(dim=0), largest.sum(dim=0), rows])
            self._noted[task] = tuple(sources), totals.double()

    def read(self, tasks: Sequence[str]) -> dict[str, float]:
        """Return the means over all processes' rows, by the names of ``Trunk.gauges``."""
        found: dict[str, float] = {}
        for task in tasks:
            sources, totals = self._noted[task]
            gates, loads, rows = all_reduce_sum(totals.cpu())
            if rows[0] > 0:
                found |= gauge_names(self._kinds[0], task, sources, gates / rows)
                found |= gauge_names(self._kinds[1], task, sources, loads / rows)
        return found


def gauge_names(kind: str, task: str, sources: Sequence[str], values: Tensor) -> dict[str, float]:
    """Return {``<kind>/<task>/<source>``: value}; values: (E,)."""
    return {f"{kind}/{task}/{s}": v for s, v in zip(sources, values.tolist(), strict=True)}


class AttentionStats:
    """Attention weights that tasks gave in the last training step.

    ``gate/<task>/pooled`` is the mean weight of a row's pooled vector, ``gate/<task>/tokens`` that
    of all its tokens or cells; ``attention/<task>/<other>`` is sum_l min(a_l, b_l) of the two
    tasks' weights of the same rows: 1 where they look alike, 0 where at nothing in common.
    """

    def __init__(self) -> None:
        self._noted: dict[str, dict[str, Tensor]] = {}  # {task: {name: (sum, rows)}}

    def note(self, looks: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take note of {data set: {task: (N, 1 + L)}}; not in validation, without gradients."""
        if not torch.is_grad_enabled():
            return
        found: dict[str, dict[str, Tensor]] = {}
        for tasks in looks.values():
            for task, weights in tasks.items():
                own, pooled = found.setdefault(task, {}), weights.detach()[:, 0]
                add_values(own, f"gate/{task}/pooled", pooled)
                add_values(own, f"gate/{task}/tokens", 1 - pooled)
                for other, theirs in tasks.items():
                    alike = torch.minimum(weights.detach(), theirs.detach()).sum(dim=1)
                    add_values(own, f"attention/{task}/{other}", alike)
        self._noted |= found

    def read(self, tasks: Sequence[str]) -> dict[str, float]:
        """Return the means over all processes' rows."""
        found = {}
        for task in tasks:
            for name, noted in self._noted.get(task, {}).items():
                total, rows = all_reduce_sum(noted.cpu()).tolist()
                if rows:
                    found[name] = total / rows
        return found


def add_values(sums: dict[str, Tensor], name: str, values: Tensor) -> None:
    """Add values (n,) and their number to a sum."""
    more = torch.stack([values.double().sum(), values.new_tensor(len(values)).double()])
    sums[name] = sums[name] + more if name in sums else more
