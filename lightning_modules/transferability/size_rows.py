"""The size of a source as a score: what it was trained on."""

from __future__ import annotations

from lightning_modules.transferability.base import Evidence, EvidenceKind, Score, require_evidence


class RowCount(Score):
    """The number of labelled rows that the source was trained on, over its tasks.

    It knows nothing of the target: a score that ranks no better tells nothing. Sources of one
    architecture, which have the same number of weights, differ in it.

    Examples:
        >>> import pollinate as po
        >>> po.scores.RowCount().score(po.Evidence(rows=5000))
        5000.0
    """

    title = "rows"
    reads = EvidenceKind.SIZE

    def score(self, evidence: Evidence) -> float:
        return float(require_evidence(evidence.rows))
