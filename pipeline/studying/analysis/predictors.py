"""Whether what guesses gains without training has guessed those that were measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.ranking.agreement import Agreement, agreement
from pipeline.studying.analysis.baselines import baselines
from pipeline.studying.answers import Transfer
from pipeline.studying.results import Results

SIZE = "size_rows"  # the baseline: sources with more labels are better

Values = Mapping[str, Mapping[str, float]]  # {target task: {source task: value}}


def agreements(results: Results, transfers: Sequence[Transfer], seed: int) -> dict[str, Agreement]:
    """Return how well each predictor, and the number of labels, rank the sources of each target."""
    gains = measured(results, transfers)
    if not gains:
        return {}
    known: dict[str, Values] = dict(results.predictors)
    if SIZE not in known and (size := sizes(results)):
        known[SIZE] = size
    return {name: _agreement(values, gains, seed) for name, values in known.items()}


def measured(results: Results, transfers: Sequence[Transfer]) -> dict[str, dict[str, float]]:
    """Return {target: {source: mean gain}} over the arms with all labels that tried them."""
    found: dict[str, dict[str, list[float]]] = {}
    for one in transfers:
        if results.arms[one.arm].labels == 1:
            gain = one.gain.difference.mean
            found.setdefault(one.target, {}).setdefault(one.source, []).append(gain)
    return {
        target: {source: float(np.mean(values)) for source, values in sources.items()}
        for target, sources in found.items()
    }


def sizes(results: Results) -> dict[str, dict[str, float]]:
    """Return {target: {source: labels of the source}}."""
    rows: dict[str, float] = {}
    for (task, share), arm in baselines(results).items():
        known = [t.labels[task] for t in results.finished(arm) if t.labels.get(task)]
        if share == 1 and known:
            rows[task] = float(np.mean(known))
    return {target: {s: n for s, n in rows.items() if s != target} for target in rows}


def _agreement(values: Values, gains: Values, seed: int) -> Agreement:
    sources = sorted({source for own in gains.values() for source in own})

    def column(own: Mapping[str, float]) -> np.ndarray:
        found = [own.get(source, math.nan) for source in sources]
        return np.array([one if math.isfinite(one) else math.nan for one in found])

    return agreement([(column(values.get(t, {})), column(own)) for t, own in gains.items()], seed)
