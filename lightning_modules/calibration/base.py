"""What a calibrator is, and which of several is taken."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor

FOLDS = 5
FEWEST = 2 * FOLDS  # rows from which calibrators are compared
# -log p(y | output) of outputs (N, ...) and targets (N, ...): (N,)
Surprise = Callable[[Tensor, Tensor], Tensor]


class Calibrator(ABC):
    """Maps a trained model's outputs to outputs that are right as often as they say.

    It has a few numbers, fitted to rows that the model was not trained on.

    Attributes:
        numbers: names of the attributes that hold these numbers.

    Examples:
        >>> import torch, pollinate as po
        >>> logits = torch.tensor([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])  # .98 sure
        >>> calibrator = po.calibration.Temperature().fit(logits, torch.tensor([0, 0, 1, 1]))
        >>> calibrator(logits).softmax(dim=1).max(dim=1).values[0] < 0.9  # 3 of 4 are right
        tensor(True)
        >>> copy = po.calibration.Temperature().load(calibrator.state())
        >>> torch.equal(copy(logits), calibrator(logits))
        True
    """

    numbers: ClassVar[tuple[str, ...]]

    @abstractmethod
    def fit(self, output: Tensor, target: Tensor) -> Self:
        """Fit to outputs (N, ...) and targets (N, ...) of N >= 1 rows."""

    @abstractmethod
    def __call__(self, output: Tensor) -> Tensor:
        """Return calibrated outputs of outputs (N, ...)."""

    def state(self) -> dict[str, Tensor]:
        """Return the fitted numbers, {name: tensor}."""
        return {name: getattr(self, name) for name in self.numbers}

    def load(self, state: Mapping[str, Tensor]) -> Self:
        """Take over what ``state`` returned."""
        for name in self.numbers:
            setattr(self, name, state[name])
        return self


def folds_of(count: int, seed: int = 0) -> Tensor:
    """Return the fold of each of N rows, 0 to 4, drawn from a seed: (N,) int64."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order % FOLDS


def held_out(
    make: Callable[[], Calibrator], output: Tensor, target: Tensor, fold: Tensor
) -> Tensor:
    """Return outputs as calibrators that were fitted to the other folds' rows make them.

    Args:
        make: gives a calibrator that isn't fitted.
        output: (N, ...); target: (N, ...); fold: (N,), of which there are two or more.
    """
    found: Tensor | None = None
    for number in range(FOLDS):
        own = fold == number
        if not own.any():
            continue
        part = make().fit(output[~own], target[~own])(output[own])
        if found is None:
            found = part.new_empty(len(output), *part.shape[1:])
        found[own] = part
    assert found is not None
    return found


def choose(
    candidates: Mapping[str, Callable[[], Calibrator]],
    surprise: Surprise,
    output: Tensor,
    target: Tensor,
) -> str:
    """Return the name of the calibrator to take: the first, unless a later one is surely better.

    Surely better: over rows whose calibrator was fitted without them, its mean -log p is smaller
    by more than twice the standard error of the difference.

    Args:
        candidates: {name: gives a calibrator that isn't fitted}, the simplest first.
        surprise: -log p.
        output: (N, ...); target: (N, ...).
    """
    first, *others = candidates
    if not others or len(output) < FEWEST:
        return first
    fold = folds_of(len(output))

    def losses(name: str) -> Tensor:
        return surprise(held_out(candidates[name], output, target, fold), target).double()

    best, lowest = first, losses(first)
    for name in others:
        found = losses(name)
        gain = lowest - found
        if gain.mean() > 2 * gain.std() / len(gain) ** 0.5:
            best, lowest = name, found
    return best


def as_precise(output: Tensor) -> Tensor:
    """Return outputs in float32 at least."""
    return output.to(torch.promote_types(output.dtype, torch.float32))
