"""LEEP: how well the source's own classes tell the target's apart."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.transferability.base import (
    Evidence,
    EvidenceKind,
    Score,
    require_evidence,
    require_rows,
)


class LEEP(Score):
    """1 / n sum_i log sum_z P(y_i | z) P(z | x_i).

    P(z | x) is what the source's head says of its classes z; P(y | z) = P(y, z) / P(z) with
    P(y, z) = 1 / n sum_{i: y_i = y} P(z | x_i).

    Source: Nguyen, Hassner, Seeger and Archambeau 2020.

    Examples:
        >>> import torch, pollinate as po
        >>> says = torch.tensor([[1.0, 0.0], [0.5, 0.5]])  # a head of the source
        >>> evidence = po.Evidence(probabilities=says, classes=torch.tensor([0, 1]))
        >>> round(po.scores.LEEP().score(evidence), 4)  # log(2 / 3)
        -0.4055
    """

    title = "LEEP"
    reads = EvidenceKind.HEADS

    def score(self, evidence: Evidence) -> float:
        """Return the mean log likelihood of a label, in nats, <= 0."""
        probabilities, classes = (
            require_evidence(evidence.probabilities),
            require_evidence(evidence.classes),
        )
        require_rows(len(classes), 1, self.title)
        return leep(probabilities, classes)


def leep(probabilities: Tensor, classes: Tensor) -> float:
    """Return LEEP of source probabilities (N, S), whose rows have the sum 1, and classes (N,)."""
    exact = probabilities.double()
    joint = exact.new_zeros(int(classes.max()) + 1, exact.shape[1])
    joint.index_add_(0, classes, exact / len(classes))
    z = joint.sum(dim=0)
    # a source class that no row gets any probability of tells nothing
    given = torch.where(z > 0, joint / z, torch.zeros_like(joint))  # P(y | z)
    return float((given[classes] * exact).sum(dim=1).log().mean())
