"""Impartial multi-task learning by gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, from_numpy

from lightning_modules.balancers.gradient_base import GramianBalancer
from lightning_modules.balancers.solvers import lengths_and_cosines


class IMTLG(GramianBalancer):
    """Equal projections of the result onto all g_t / |g_t|, with sum_t w_t = T.

    w is proportional to D^-1 C^+ 1 for G = D C D; weights can be negative. Where they sum up to
    nothing the tasks' gradients cancel out, and w = 0.
    Source: Liu et al. 2021, "Towards Impartial Multi-task Learning", equation 6, with a
    pseudo-inverse for linearly dependent gradients.

    Args:
        tasks, level, losses: as for every ``GradientBalancer``.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": 4 * shared[0], "stars": shared[1]}
        >>> po.balancers.IMTLG(["mood", "stars"]).backward(losses)
        >>> shared.grad  # as far along the one as along the other
        tensor([1.6000, 1.6000])
    """

    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        lengths, cosines = lengths_and_cosines(gramian)
        v = np.linalg.pinv(cosines, rcond=1e-12, hermitian=True).sum(axis=1) / lengths
        total = v.sum()
        if abs(total) <= 1e-12 * np.abs(v).sum():
            return from_numpy(np.zeros(len(tasks)))
        return from_numpy(v / total * len(tasks))
