"""How much less often a model errs if it may abstain."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor

from pollinate.errors import UsageError

DOUBT = 0.05  # probability with which a bound on the risk may be wrong


class RiskCoverage:
    """The risk-coverage curve: r(k) = mean error of the k rows answered with most confidence.

    Source: Geifman & El-Yaniv 2017, "Selective classification for deep neural networks".

    Attributes:
        confidence: (N,) of calibration rows, the largest first.
        error: (N,) of their answers, in the same order; in [0, 1] where a risk can be asked for.

    Examples:
        >>> import torch, pollinate as po
        >>> sure, wrong = torch.linspace(1, 0, 1000), torch.arange(1000) > 700
        >>> curve = po.calibration.RiskCoverage().fit(sure, wrong)
        >>> round(curve.risk_at(1.0), 3), curve.risk_at(0.5)  # of all rows, of the surer half
        (0.299, 0.0)
        >>> curve.threshold_of_coverage(0.5) > curve.threshold_of_risk(0.1)
        True
    """

    numbers = ("confidence", "error")

    def __init__(self) -> None:
        self.confidence = torch.zeros(0)
        self.error = torch.zeros(0)

    def fit(self, confidence: Tensor, error: Tensor) -> Self:
        """Take confidences (N,) and errors (N,) of rows."""
        order = confidence.argsort(descending=True, stable=True)
        self.confidence, self.error = confidence[order].double().cpu(), error[order].float().cpu()
        return self

    @property
    def curve(self) -> tuple[Tensor, Tensor]:
        """Coverage k / N and risk r(k), (N,) each."""
        count = torch.arange(1, len(self.error) + 1, dtype=torch.float64)
        return count / max(1, len(count)), self.error.double().cumsum(dim=0) / count

    @property
    def area(self) -> float:
        """Mean of the risk over all coverages."""
        return self.curve[1].mean().item()

    def risk_at(self, coverage: float) -> float:
        """Return the risk where a share in (0, 1] of the rows is answered."""
        return self.curve[1][self._kept(coverage) - 1].item()

    def threshold_of_coverage(self, coverage: float) -> float:
        """Return the confidence from which on a share in (0, 1] of the rows is answered.

        Raises:
            UsageError: it is no share.
        """
        if not 0 < coverage <= 1:
            raise UsageError(f"a share of rows to answer must be in (0, 1], got {coverage}")
        return (
            self.confidence[self._kept(coverage) - 1].item() if len(self.confidence) else math.inf
        )

    def threshold_of_risk(self, risk: float, doubt: float = DOUBT) -> float:
        """Return the confidence from which on answers err at most so often, with 1 - ``doubt``.

        The most rows are answered whose bound on the risk allows it; infinity if none do. The bound
        is the binomial tail of errors of 0 and 1 (e times that of errors between: Bentkus 2004).
        Source: Geifman & El-Yaniv 2017, algorithm 1.

        Raises:
            UsageError: the risk isn't in (0, 1), or errors are numbers that have no bound.
        """
        if not 0 < risk < 1:
            raise UsageError(f"a risk must be in (0, 1), got {risk}")
        if len(self.error) and not 0 <= self.error.min() <= self.error.max() <= 1:
            raise UsageError("no risk can be chosen where errors are numbers; choose a coverage")
        from scipy.stats import beta  # half a second

        count = len(self.error)
        flags = bool(((self.error == 0) | (self.error == 1)).all())
        steps = max(1, math.ceil(math.log2(max(2, count))))
        level = doubt / steps / (1 if flags else math.e)
        errors = self.error.double().cumsum(dim=0)
        low, high, best = 1, count, math.inf
        for _ in range(steps + 1):
            if low > high:
                break
            kept = (low + high) // 2
            wrong = math.ceil(errors[kept - 1].item() - 1e-9)
            bound = 1.0 if wrong >= kept else float(beta.ppf(1 - level, wrong + 1, kept - wrong))
            if bound <= risk:
                best, low = self.confidence[kept - 1].item(), kept + 1
            else:
                high = kept - 1
        return best

    def _kept(self, coverage: float) -> int:
        return max(1, math.ceil(round(coverage * len(self.confidence), 9)))

    def state(self) -> dict[str, Tensor]:
        """Return what was fitted, {name: tensor}."""
        return {name: getattr(self, name) for name in self.numbers}

    def load(self, state: Mapping[str, Tensor]) -> Self:
        """Take over what ``state`` returned."""
        self.confidence, self.error = state["confidence"], state["error"]
        return self
