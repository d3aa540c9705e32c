"""TAG affinity: what a step on one task does to the loss of another."""

from __future__ import annotations

from torch import Tensor

from lightning_modules.transferability.base import Evidence, EvidenceKind, Score, require_evidence


class TAG(Score):
    """Mean over training of Z(i -> j) = 1 - L_j(shared weights after a step on i) / L_j.

    i is the source, j the target; the step is plain gradient descent with the run's learning rate.

    Source: Fifty et al. 2021, section 4.

    Examples:
        >>> import torch, pollinate as po
        >>> evidence = po.Evidence(affinity=torch.tensor([0.125, 0.375]))  # of two looks
        >>> po.scores.TAG().score(evidence)
        0.25
    """

    title = "TAG"
    reads = EvidenceKind.RUN

    def score(self, evidence: Evidence) -> float:
        """Return the share of the target's loss that a step on the source takes away."""
        return float(require_evidence(evidence.affinity).double().mean())


def lookahead_affinity(before: Tensor, after: Tensor) -> Tensor:
    """Return Z: (T, T), row i = the task of the step, column j = the task that is looked at.

    Args:
        before: L, (T,), each > 0; where a loss is 0, nothing can be gained: Z = 0.
        after: (T, T), row i = all losses after a step on i.
    """
    ratio = after / before.where(before > 0, before.new_ones(()))
    return (1 - ratio).where(before > 0, before.new_zeros(()))
