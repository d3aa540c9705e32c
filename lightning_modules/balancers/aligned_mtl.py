"""Independent component alignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, from_numpy

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.gradient_base import PreferenceBalancer
from pollinate.errors import UsageError

SCALES = ("min", "median", "rmse")


class AlignedMTL(PreferenceBalancer):
    """w = sigma V S^-1 V^T p for G = V S^2 V^T: the Jacobian's singular values all become sigma.

    Source: Senushkin et al. 2023, "Independent Component Alignment for Multi-Task Learning",
    algorithm 1.

    Args:
        tasks, preference, level, losses: as for every ``PreferenceBalancer``.
        scale: sigma is the smallest (``min``), ``median`` or root mean square (``rmse``) of the
            singular values that aren't 0.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": 2 * shared[0], "stars": shared[1]}
        >>> po.balancers.AlignedMTL(["mood", "stars"]).backward(losses)
        >>> shared.grad  # both as long as the shorter one
        tensor([1., 1.])
    """

    def __init__(
        self,
        tasks: Sequence[str],
        scale: str = "min",
        preference: Mapping[str, float] | None = None,
        level: str = "auto",
        losses: LossBalancer | None = None,
    ) -> None:
        super().__init__(tasks, preference, level, losses)
        if scale not in SCALES:
            raise UsageError(f"balancer.scale must be {' or '.join(SCALES)}, got {scale}")
        self.scale = scale

    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        values, vectors = torch.linalg.eigh(gramian)
        kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
        values, vectors = values[kept], vectors[:, kept]
        sigma = {"min": values[0], "median": values.median(), "rmse": values.mean()}[self.scale]
        p = from_numpy(self.preferred(tasks))
        weights: Tensor = vectors @ ((sigma / values).sqrt() * (p @ vectors))
        return weights
