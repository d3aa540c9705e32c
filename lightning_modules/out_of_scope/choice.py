"""Which score tells strange rows best, found without any strange row."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from lightning_modules.out_of_scope.base import OutOfScopeScore, ScopeRows, area_under_roc
from lightning_modules.out_of_scope.energy import Energy
from lightning_modules.out_of_scope.energy_and_distance import HELD_OUT, EnergyAndDistance
from lightning_modules.out_of_scope.mahalanobis import Mahalanobis
from lightning_modules.out_of_scope.nearest import NearestRows

SCORES: Mapping[str, type[OutOfScopeScore]] = {
    "energy": Energy,
    "energy_and_distance": EnergyAndDistance,
    "mahalanobis": Mahalanobis,
    "nearest_rows": NearestRows,
}
BOTH, CLOSE = "energy_and_distance", 0.01
PARTS = 4  # of the classes, of which one after the other plays the strange ones
FEWEST, MOST = 20, 3000  # rows that scores are compared on


def choose_score(rows: ScopeRows) -> dict[str, float]:
    """Return {score: how well it tells rows of unknown classes}, the best first; none: {}.

    A quarter of the classes plays the strange ones, in turn: the score is fitted to the other
    classes' rows, or looks at their logits alone, and is asked for the rows of all. Each number is
    the mean area under the ROC. With fewer than four classes, or of numbers, nothing can be
    compared: the first score that has what it needs is taken, with a NaN.

    Rows that are like no class differ from all of them in ways that one score alone may not see:
    energy and distance together come first unless another is better by more than a hundredth.

    Args:
        rows: that the model was not trained on, with their classes if there are any.
    """
    count = len(rows.classes) if rows.classes is not None else 0
    if count > MOST:
        rows = rows[torch.randperm(count, generator=torch.Generator().manual_seed(0))[:MOST]]
    able = [name for name, kind in SCORES.items() if kind().can_fit(rows)]
    classes = rows.classes
    if not able:
        return {}
    if classes is None or len(classes) < FEWEST or len(kinds := torch.unique(classes)) < PARTS:
        return dict.fromkeys(able[:1], math.nan)
    generator = torch.Generator().manual_seed(0)
    part = torch.empty(int(kinds.max()) + 1, dtype=torch.int64)
    part[kinds] = torch.randperm(len(kinds), generator=generator) % PARTS
    fitted_to = torch.arange(len(classes)) % HELD_OUT != 0
    found = {}
    for name in able:
        areas = []
        for number in range(PARTS):
            strange = part[classes] == number
            known = kinds[part[kinds] != number]
            if not (~strange & fitted_to).any() or not (~strange & ~fitted_to).any():
                continue
            score = SCORES[name]().fit(rows[~strange & fitted_to]).without(known)
            areas.append(area_under_roc(score(rows[~strange & ~fitted_to]), score(rows[strange])))
        found[name] = sum(areas) / max(1, len(areas))
    best = max(found.values())
    together = {BOTH} if found.get(BOTH, 0.0) >= best - CLOSE else set()
    return dict(sorted(found.items(), key=lambda item: (item[0] not in together, -item[1])))
