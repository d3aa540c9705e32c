"""Gradient cosine: do two tasks pull the shared weights the same way?"""

from __future__ import annotations

from torch import Tensor

from lightning_modules.transferability.base import Evidence, EvidenceKind, Score, require_evidence


class GradientCosine(Score):
    """Mean over training of g_i . g_j / (|g_i| |g_j|), g the gradients of the shared weights.

    The same for both directions. Source: Du et al. 2018.

    Examples:
        >>> import torch, pollinate as po
        >>> evidence = po.Evidence(cosine=torch.tensor([-1.0, 0.5]))  # of two looks
        >>> po.scores.GradientCosine().score(evidence)
        -0.25
    """

    title = "cosine"
    reads = EvidenceKind.RUN

    def score(self, evidence: Evidence) -> float:
        """Return a number in [-1, 1]."""
        return float(require_evidence(evidence.cosine).double().mean())


def pairwise_cosines(gradients: Tensor) -> Tensor:
    """Return the cosines (T, T) of gradients (T, P); 0 for a gradient of length 0."""
    exact = gradients.double()
    lengths = exact.norm(dim=1, keepdim=True)
    unit: Tensor = exact / lengths.where(lengths > 0, lengths.new_ones(()))
    return unit @ unit.T
