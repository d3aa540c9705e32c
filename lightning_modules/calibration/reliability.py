"""How far what a model says of its answers is from how often they are right."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Normal
from torch.nn import functional

from lightning_modules.calibration.variance_scaling import normal_crps

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """What was said and what was found, in B bins of equal width.

    Attributes:
        said: (B,) mean probability of the answers of a bin.
        found: (B,) share of them that are right.
        count: (B,) answers of a bin.

    Examples:
        >>> import torch, pollinate as po
        >>> sure = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.6, 0.6])
        >>> right = torch.tensor([True, True, False, False, True, False])
        >>> found = po.calibration.Reliability.of(sure, right)
        >>> round(found.ece, 4)  # 4 / 6 |.9 - .5| + 2 / 6 |.6 - .5|
        0.3
        >>> found.ece_debiased < found.ece
        True
    """

    said: Tensor
    found: Tensor
    count: Tensor

    @classmethod
    def of(cls, confidence: Tensor, right: Tensor, bins: int = BINS) -> Reliability:
        """Put answers into bins.

        Args:
            confidence: (N,) their probabilities, in [0, 1].
            right: (N,) whether they are right, bool or 0 and 1.
            bins: B, >= 1; the b-th has probabilities in (b / B, (b + 1) / B].
        """
        sure, hit = confidence.double().cpu(), right.double().cpu()
        place = ((sure * bins).ceil().long() - 1).clamp(0, bins - 1)
        count, said, found = (
            torch.zeros(bins, dtype=torch.float64).scatter_add(0, place, values)
            for values in (torch.ones_like(sure), sure, hit)
        )
        full = count > 0
        return cls(said[full] / count[full], found[full] / count[full], count[full])

    @property
    def ece(self) -> float:
        """Expected calibration error sum_b n_b / N |said_b - found_b| (Guo et al. 2017)."""
        return ((self.count * self._gap).sum() / self.count.sum().clamp(min=1)).item()

    @property
    def ece_debiased(self) -> float:
        """The same less what chance adds, >= 0.

        Where few answers fall into a bin, its found_b differs from its expectation by chance, with
        the variance v_b = found_b (1 - found_b) / n_b, and the ECE of a perfect model is above 0.
        Subtracted is sum_b n_b / N (E |N(gap_b, v_b)| - |gap_b|). Source: Kumar, Liang & Ma 2019,
        "Verified uncertainty calibration", section 4 and their code; here in closed form.
        """
        spread = (self.found * (1 - self.found) / self.count).sqrt()
        ratio = torch.where(spread > 0, self._gap / spread.clamp(min=1e-12), math.inf)
        density = (-ratio.square() / 2).exp() * math.sqrt(2 / math.pi)
        by_chance = spread * density - 2 * self._gap * torch.special.ndtr(-ratio)
        bias = ((self.count * by_chance).sum() / self.count.sum().clamp(min=1)).item()
        return max(0.0, self.ece - float(bias))

    @property
    def _gap(self) -> Tensor:
        return (self.said - self.found).abs()


@singledispatch
def reliability(distribution: Distribution, target: Tensor) -> Reliability:
    """Return how right p(y | x) is, of the likeliest class, of each label, or of intervals.

    Args:
        distribution: of N rows.
        target: (N, ...).
    """
    raise TypeError(f"no reliability of {type(distribution).__name__}")


@reliability.register
def _of_classes(distribution: Categorical, target: Tensor) -> Reliability:
    confidence, answer = distribution.probs.max(dim=-1)
    return Reliability.of(confidence, answer == target)


@reliability.register
def _of_labels(distribution: Bernoulli, target: Tensor) -> Reliability:
    return Reliability.of(distribution.probs.flatten(), target.flatten())


@reliability.register
def _of_numbers(distribution: Normal, target: Tensor) -> Reliability:
    """Return how many targets lie in the central intervals that have 1 / 16 ... 15 / 16 of p."""
    # the probability of the smallest central interval that holds the target
    error = (target.to(distribution.loc) - distribution.loc) / distribution.scale
    needed = (2 * torch.special.ndtr(error) - 1).abs()
    levels = torch.arange(1, BINS + 1, dtype=torch.float64) / (BINS + 1)
    found = (needed.double().cpu()[:, None] <= levels).double().mean(dim=0)
    return Reliability(levels, found, torch.full_like(levels, len(target)))


@singledispatch
def proper_scores(distribution: Distribution, target: Tensor) -> dict[str, float]:
    """Return mean proper scores of p(y | x), smaller is better: nll, and brier or crps.

    Args:
        distribution: of N >= 1 rows.
        target: (N, ...).
    """
    raise TypeError(f"no scores of {type(distribution).__name__}")


@proper_scores.register
def _scores_of_classes(distribution: Categorical, target: Tensor) -> dict[str, float]:
    """Return -log p_y and the Brier score sum_c (p_c - [y = c])^2 (Brier 1950)."""
    probs = distribution.probs.double()
    wanted = functional.one_hot(target, probs.shape[-1])
    brier = (probs - wanted).square().sum(dim=-1).mean()
    return {"nll": _nll(distribution, target), "brier": brier.item()}


@proper_scores.register
def _scores_of_labels(distribution: Bernoulli, target: Tensor) -> dict[str, float]:
    """Return the means over rows and labels of -log p and (p_c - y_c)^2."""
    wanted = target.to(distribution.probs)
    brier = (distribution.probs - wanted).double().square().mean()
    return {"nll": _nll(distribution, wanted), "brier": brier.item()}


@proper_scores.register
def _scores_of_numbers(distribution: Normal, target: Tensor) -> dict[str, float]:
    """Return -log p and the continuous ranked probability score, in the target's unit."""
    mean, scale, wanted = distribution.loc.double(), distribution.scale.double(), target.double()
    crps = normal_crps(mean, scale, wanted).mean().item()
    return {"nll": _nll(distribution, target), "crps": crps}


def _nll(distribution: Distribution, target: Tensor) -> float:
    return -distribution.log_prob(target).double().mean().item()


def calibration_scores(distribution: Distribution, target: Tensor) -> dict[str, float]:
    """Return ece, ece_debiased, nll, and brier or crps of p(y | x) on N >= 1 rows."""
    found = reliability(distribution, target)
    errors = {"ece": found.ece, "ece_debiased": found.ece_debiased}
    return errors | proper_scores(distribution, target)
