"""Where tasks look in the same rows, and how alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_modules.metrics import summed


class Looks:
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
                add(own, f"gate/{task}/pooled", pooled)
                add(own, f"gate/{task}/tokens", 1 - pooled)
                for other, theirs in tasks.items():
                    alike = torch.minimum(weights.detach(), theirs.detach()).sum(dim=1)
                    add(own, f"attention/{task}/{other}", alike)
        self._noted |= found

    def read(self, tasks: Sequence[str]) -> dict[str, float]:
        """Return the means over all processes' rows."""
        found = {}
        for task in tasks:
            for name, noted in self._noted.get(task, {}).items():
                total, rows = summed(noted.cpu()).tolist()
                if rows:
                    found[name] = total / rows
        return found


def add(sums: dict[str, Tensor], name: str, values: Tensor) -> None:
    """Add values (n,) and their number to a sum."""
    more = torch.stack([values.double().sum(), values.new_tensor(len(values)).double()])
    sums[name] = sums[name] + more if name in sums else more
