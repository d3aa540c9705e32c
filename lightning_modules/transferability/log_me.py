"""LogME: how well a Bayesian linear model on the features explains the labels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_modules.transferability.base import Evidence, Score, require_evidence, require_rows

LOG_RANGE = math.log(1e12)  # of lambda, to both sides of the features' largest variance
GRID_POINTS, SEARCH_STEPS = (
    100,
    40,
)  # places looked at for the maximum; steps of the search between two of them
GOLDEN = (math.sqrt(5) - 1) / 2


class LogME(Score):
    """Mean over the label columns y of max_{alpha, beta} log p(y | F, alpha, beta) / n.

    Source: You, Liu, Wang and Long 2021, algorithm 1. See ``log_evidence``.

    Examples:
        >>> import torch, pollinate as po
        >>> labels = torch.tensor([[1.0], [-1.0]]).repeat(4, 1)
        >>> good = po.Evidence(features=labels + 0.1 * torch.randn(8, 1), labels=labels)
        >>> useless = po.Evidence(features=torch.zeros(8, 1), labels=labels)
        >>> po.scores.LogME().score(good) > po.scores.LogME().score(useless)
        True
    """

    title = "LogME"

    def score(self, evidence: Evidence) -> float:
        """Return the mean log evidence of a label, in nats."""
        features, labels = require_evidence(evidence.features), require_evidence(evidence.labels)
        require_rows(len(labels), 2, self.title)
        return float(log_evidence(features, labels).mean())


def log_evidence(features: Tensor, labels: Tensor) -> Tensor:
    """Return max_{alpha, beta} log p(y | F, alpha, beta) / n of each column y: (K,).

    w ~ N(0, 1 / alpha), y ~ N(F w, 1 / beta). With lambda = alpha / beta, F = U diag(s) V' and
    z = U' y, the best beta given lambda is n / r with r = |y|^2 - sum_i s_i^2 z_i^2 /
    (s_i^2 + lambda), which leaves one number to search:

        2 log p = n log(n / r) - n log(2 pi) - n - sum_i log(1 + s_i^2 / lambda)

    The paper's fixed point, alpha and beta in turn, goes to a maximum of the same function. Where
    labels are fitted without error it has none; lambda stays within 1e+-12 of the largest s_i^2.

    Args:
        features: F, (N, D).
        labels: (N, K), each column has an entry that isn't 0.
    """
    exact, targets = features.double(), labels.double()
    n = len(targets)
    u, s, _ = torch.linalg.svd(exact, full_matrices=False)
    variances = s.square()  # (r,)
    if not len(variances) or variances[0] == 0:
        variances, u = variances.new_zeros(1), u.new_zeros(n, 1)
    explained = (u.T @ targets).square()  # (r, K)
    total = targets.square().sum(dim=0)  # (K,)
    tiny = total * torch.finfo(torch.float64).eps

    def evidence(log_lambda: Tensor) -> Tensor:
        """Return the evidence at one lambda per column: (K,) -> (K,)."""
        ratio = variances[:, None] / log_lambda.exp()
        r = (total - (explained * ratio / (1 + ratio)).sum(dim=0)).maximum(tiny)
        fit = n * (n / r).log() - n * math.log(2 * math.pi) - n
        found: Tensor = (fit - ratio.log1p().sum(dim=0)) / (2 * n)
        return found

    middle = math.log(max(float(variances[0]), torch.finfo(torch.float64).tiny))
    grid = torch.linspace(middle - LOG_RANGE, middle + LOG_RANGE, GRID_POINTS, dtype=torch.float64)
    values = torch.stack([evidence(place.expand(len(total))) for place in grid])
    best = values.argmax(dim=0)
    low, high = grid[(best - 1).clamp(min=0)], grid[(best + 1).clamp(max=GRID_POINTS - 1)]
    for _ in range(SEARCH_STEPS):  # golden section search
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        lower = evidence(left) >= evidence(right)
        low, high = torch.where(lower, low, left), torch.where(lower, right, high)
    return torch.maximum(values.amax(dim=0), evidence((low + high) / 2))
