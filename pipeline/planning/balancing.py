"""What a balancer holds of the shared parameters' gradients."""

from __future__ import annotations

import copy
import gc
from dataclasses import dataclass

import torch
from torch import nn

from lightning_modules.balancers.base import Balancer
from lightning_modules.balancers.gradient.parameters import SharedParameters
from pipeline.planning.pretend import unchanged_draws
from pipeline.planning.tally import Tally

SIZES = (1 << 12, 1 << 14)  # numbers of two small problems


@dataclass(frozen=True)
class Held:
    """Bytes for each shared number of 4 bytes: always held, and at most while combining."""

    always: float = 0.0
    peak: float = 0.0


def held(balancer: Balancer) -> Held:
    """Return what a balancer of gradients at level ``parameters`` needs besides the gradient.

    Found by two steps on problems of two sizes, with real numbers and a copy of the balancer: its
    T rows, and whatever else it copies, grow with the size.
    """
    (live_small, peak_small), (live, peak) = (two_steps(balancer, size) for size in SIZES)
    growth, gradient = SIZES[1] - SIZES[0], 4
    return Held((live - live_small) / growth - gradient, (peak - peak_small) / growth - gradient)


def two_steps(balancer: Balancer, size: int) -> tuple[int, int]:
    """Return the bytes that are live after two steps, and at most in the second."""
    own = copy.deepcopy(balancer)
    draws = torch.Generator().manual_seed(0)
    slopes = {task: torch.randn(size, generator=draws) for task in own.tasks}
    weights = nn.Parameter(torch.ones(size))
    shared = SharedParameters([weights])
    tally = Tally()
    with unchanged_draws(), tally:
        own.begin_epoch(0)
        for _ in range(2):
            weights.grad = None
            gc.collect()
            tally.restart()
            losses = {task: weights @ slope + 2.0 * size for task, slope in slopes.items()}
            own.backward(losses, shared)
            del losses
        gc.collect()
    return tally.live, tally.peak
