"""Time of the weights alone, near Pareto points and away from them, against one decomposition.

    python -m benchmarks.balancer_solvers [METHOD ...] [tasks=3,8,20] [rounds=200]

``left`` is how much of its usual length the shortest positive combination of the gradients has: 1
far from every Pareto point, 0 at one. The unit is numpy's eigendecomposition of the same Gramian,
which takes turns with the method; the figures are medians of the ratios, and their 95th percentile.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.toy_pareto import shipped
from lightning_modules.balancers.gradient_base import GramianBalancer
from lightning_modules.building import build_balancer

METHODS = ("nash_mtl", "fairgrad", "mgda", "upgrad", "cagrad", "pcgrad", "aligned_mtl", "pcd")
LEFT = (1.0, 1e-2, 1e-4, 1e-8, 0.0)


def gramian(count: int, left: float, draws: torch.Generator) -> Tensor:
    """Return the Gramian of gradients of which a positive combination is short: (T, T)."""
    rows = torch.randn(count, 200, generator=draws, dtype=torch.float64)
    v = 0.2 + 1.8 * torch.rand(count, generator=draws, dtype=torch.float64)
    rows -= (1 - left) * torch.outer(v, v @ rows) / (v @ v)
    return rows @ rows.T


def ratios(name: str, count: int, left: float, rounds: int) -> list[float]:
    """Return the time of the weights by that of a decomposition, of each round."""
    draws = torch.Generator().manual_seed(0)
    tasks = [f"t{number}" for number in range(count)]
    node = {**shipped(name), **({"seed": 0} if "seed" in shipped(name) else {})}
    balancer = build_balancer({"balancer": node, "allow_targets": ()}, tasks)
    assert isinstance(balancer, GramianBalancer)
    losses = torch.ones(count, dtype=torch.float64)
    found = []
    for _ in range(rounds):
        matrix = gramian(count, left, draws)
        start = time.perf_counter()
        balancer.weigh(matrix, losses, tasks)
        middle = time.perf_counter()
        np.linalg.eigh(matrix.numpy())
        found.append((middle - start) / (time.perf_counter() - middle))
    return found[rounds // 10 :]  # the first ones load code


def main(arguments: Sequence[str]) -> None:
    """Measure, and print a line for each method and number of tasks."""
    named = dict(a.split("=") for a in arguments if "=" in a)
    names = [a for a in arguments if "=" not in a] or METHODS
    counts = [int(count) for count in named.get("tasks", "3,8,20").split(",")]
    torch.set_num_threads(1)
    table = Table("method", "tasks", *(f"left {left:g}" for left in LEFT))
    for name in names:
        for count in counts:
            cells = []
            for left in LEFT:
                found = ratios(name, count, left, int(named.get("rounds", 200)))
                cells.append(f"{np.median(found):.1f} ({np.percentile(found, 95):.0f})")
            table.add_row(name, str(count), *cells)
    Console(width=110).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
