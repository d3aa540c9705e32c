"""The size of a source as a score: its weights."""

from __future__ import annotations

from lightning_modules.transferability.base import Evidence, EvidenceKind, Score, require_evidence


class ParameterCount(Score):
    """The number of weights that a transfer takes over: encoders and trunk, no heads.

    It knows nothing of the target: a score that ranks no better tells nothing. On usual benchmarks
    of pre-trained models such fixed rankings beat scores that look at the data (Singh et al. 2025).

    Examples:
        >>> import pollinate as po
        >>> po.scores.ParameterCount().score(po.Evidence(parameters=4_700_000))
        4700000.0
    """

    title = "weights"
    reads = EvidenceKind.SIZE

    def score(self, evidence: Evidence) -> float:
        return float(require_evidence(evidence.parameters))
