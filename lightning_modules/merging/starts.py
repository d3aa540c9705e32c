"""Do models come from one start? Those that don't can't be merged weight by weight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from lightning_modules.merging.models import Models

SAMPLE = 1 << 16  # entries of a tensor that are looked at
LEAST = 0.05  # cosine of models with one start; that of others is 0 but for chance
CHANCE = 3.0  # standard deviations of it
HIGHEST = 0.2  # so that models of some hundred weights aren't refused by chance


@dataclass(frozen=True)
class Strangers:
    """Two models whose weights have nothing to do with each other; cosine: of the two."""

    model: str
    other: str
    cosine: float


class Angle:
    """The angle between two models, gathered tensor by tensor."""

    def __init__(self) -> None:
        self.product = self.first = self.second = 0.0
        self.entries = 0

    def add(self, a: Tensor, b: Tensor) -> None:
        """Take a part of both vectors: (n,) float64 each."""
        self.product += (a @ b).item()
        self.first += (a @ a).item()
        self.second += (b @ b).item()
        self.entries += len(a)

    @property
    def cosine(self) -> float:
        """Of the angle; 1 where one of the vectors is 0."""
        lengths = (self.first * self.second) ** 0.5
        return self.product / lengths if lengths else 1.0

    @property
    def is_chance(self) -> bool:
        """Whether two random vectors could be as near: 0 +- 1 / sqrt(entries)."""
        limit = min(max(LEAST, CHANCE * self.entries**-0.5), HIGHEST)
        return bool(self.cosine < limit)


def strangers(models: Models) -> Iterator[Strangers]:
    """Yield the models that don't come from the start, or, without one, from that of the others.

    Over the matrices that are merged, heads left out: networks that were initialised apart are as
    random vectors.
    """
    angles: dict[tuple[int, int | None], Angle] = {}
    chosen = [unit for unit in models.units if models.is_merged(unit) and not unit.is_own]
    for unit, tensors, start in models.stream(chosen):
        if tensors[0].dim() < 2:
            continue  # biases and the weights of norms begin alike everywhere
        reference = None if start is not None else unit.owners[0]
        other = sampled(tensors[0] if start is None else start)
        for owner, tensor in zip(unit.owners, tensors, strict=True):
            if owner != reference:
                angles.setdefault((owner, reference), Angle()).add(sampled(tensor), other)
    for (owner, reference), angle in angles.items():
        if angle.is_chance:
            other_label = "the base" if reference is None else models.labels[reference]
            yield Strangers(models.labels[owner], other_label, angle.cosine)


def sampled(tensor: Tensor) -> Tensor:
    """Return some of the entries: (n,) float64."""
    return tensor.reshape(-1)[:SAMPLE].double()
