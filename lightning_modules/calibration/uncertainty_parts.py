"""Whence uncertainty comes: from the rows themselves, or from what the models don't know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Normal

SMALLEST = 1e-12


@dataclass(frozen=True)
class UncertaintyParts:
    """Uncertainty of N rows, (N,) each: total = aleatoric + epistemic, all >= 0.

    Of classes and labels it is entropy in nats, H(mean_m p_m) = mean_m H(p_m) + mutual information;
    of numbers variance in the target's unit squared, mean_m s_m^2 + variance of the means. Source:
    Depeweg et al. 2018, "Decomposition of uncertainty in Bayesian deep learning", equations 2 to 7.

    Attributes:
        total: of what several models say together.
        aleatoric: mean of what each says of its own: more models don't help.
        epistemic: what they disagree on: more training rows would help.

    Examples:
        >>> import torch, pollinate as po
        >>> from torch.distributions import Categorical
        >>> sure, torn = [0.99, 0.01], [0.01, 0.99]
        >>> models = [Categorical(probs=torch.tensor(p)) for p in ([sure, sure], [sure, torn])]
        >>> parts = po.calibration.UncertaintyParts.of(models)
        >>> parts.epistemic.float().round(decimals=2)  # of the second row they say the opposite
        tensor([0.0000, 0.6400])
    """

    total: Tensor
    aleatoric: Tensor
    epistemic: Tensor

    @classmethod
    def of(cls, models: Sequence[Distribution]) -> UncertaintyParts:
        """Part the uncertainty of M >= 1 models' p(y | x) of the same N rows."""
        total, aleatoric = parts(models[0], models)
        return cls(total, aleatoric, (total - aleatoric).clamp(min=0))


@singledispatch
def parts(first: Distribution, models: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Return total and aleatoric uncertainty of models, of which the first says the kind: (N,)."""
    raise TypeError(f"no uncertainty of {type(first).__name__}")


@parts.register
def _of_classes(first: Categorical, models: Sequence[Any]) -> tuple[Tensor, Tensor]:
    probs = torch.stack([one.probs for one in models]).double()
    return entropy(probs.mean(dim=0)), entropy(probs).mean(dim=0)


@parts.register
def _of_labels(first: Bernoulli, models: Sequence[Any]) -> tuple[Tensor, Tensor]:
    yes = torch.stack([one.probs for one in models]).double()
    probs = torch.stack([yes, 1 - yes], dim=-1)
    total, own = entropy(probs.mean(dim=0)), entropy(probs).mean(dim=0)
    return total.sum(dim=-1), own.sum(dim=-1)


@parts.register
def _of_numbers(first: Normal, models: Sequence[Any]) -> tuple[Tensor, Tensor]:
    mean = torch.stack([one.mean for one in models]).double()
    own = torch.stack([one.variance for one in models]).double().mean(dim=0)
    return own + mean.var(dim=0, correction=0), own


def entropy(probabilities: Tensor) -> Tensor:
    """Return -sum p log p of the last dimension."""
    return -(probabilities * probabilities.clamp(min=SMALLEST).log()).sum(dim=-1)
