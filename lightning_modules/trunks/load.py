"""How much each task takes of what is shared."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from lightning_modules.metrics import summed


class Load:
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
            gates, loads, rows = summed(totals.cpu())
            if rows[0] > 0:
                found |= named(self._kinds[0], task, sources, gates / rows)
                found |= named(self._kinds[1], task, sources, loads / rows)
        return found


def named(kind: str, task: str, sources: Sequence[str], values: Tensor) -> dict[str, float]:
    """Return {``<kind>/<task>/<source>``: value}; values: (E,)."""
    return {f"{kind}/{task}/{s}": v for s, v in zip(sources, values.tolist(), strict=True)}
