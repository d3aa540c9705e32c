"""How near GradNorm's weights come to their target, and how soon, by the rate of their descent.

    python -m benchmarks.gradnorm_rate [rates=0.1,0.025,...] [seeds=3] [steps=4000]

Three tasks with gradients of lengths 1, 3 and 0.3, each times exp(0.2 N(0, 1)) at each step, that
train at the rates 1.3, 1 and 0.7. The target is w_t proportional to r_t^alpha / |g_t|, with the
sum 3. ``off`` is the mean of |w / target - 1| for the mean w of the second half of the steps;
``jitter`` is the standard deviation of w there, divided by its mean; ``steps`` are those until all
weights are within 10% of the target for the first time. A cell holds the seeds' figures.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from rich.console import Console
from rich.table import Table

from lightning_modules.balancers.gradnorm import GradNorm

TASKS = ("a", "b", "c")
LENGTHS = torch.tensor([1.0, 3.0, 0.3], dtype=torch.float64)
RATES = torch.tensor([1.3, 1.0, 0.7], dtype=torch.float64)


def measured(rate: float, seed: int, steps: int) -> tuple[float, float, int]:
    """Return (off, jitter, steps until near)."""
    draws = torch.Generator().manual_seed(seed)
    balancer = GradNorm(TASKS, lr=rate)
    balancer.initial.fill_(1.0)
    target = RATES**balancer.alpha / LENGTHS
    target *= len(TASKS) / target.sum()
    found = []
    for _ in range(steps):
        noise = 0.2 * torch.randn(len(TASKS), generator=draws, dtype=torch.float64)
        gramian = torch.diag((LENGTHS * noise.exp()).square())
        found.append(balancer.weights(gramian, RATES, TASKS))
    weights = torch.stack(found)
    near = ((weights / target - 1).abs() < 0.1).all(dim=1).int()
    late = weights[steps // 2 :]
    off = (late.mean(dim=0) / target - 1).abs().mean()
    jitter = (late.std(dim=0) / late.mean(dim=0)).mean()
    return float(off), float(jitter), int(near.argmax()) if near.any() else steps


def main(arguments: Sequence[str]) -> None:
    """Learn, and print a line for each rate."""
    named = dict(argument.split("=") for argument in arguments)
    rates = [float(r) for r in named.get("rates", "0.1,0.025,0.01,0.005,0.0025,0.001").split(",")]
    seeds, steps = int(named.get("seeds", 3)), int(named.get("steps", 4000))
    table = Table("rate", "off", "jitter", "steps until near")
    for rate in rates:
        off, jitter, first = zip(*(measured(rate, s, steps) for s in range(seeds)), strict=True)
        cells = [" ".join(f"{value:.3f}" for value in values) for values in (off, jitter)]
        table.add_row(f"{rate:g}", *cells, " ".join(map(str, first)))
    Console(width=100).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
