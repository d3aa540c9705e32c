"""What each source task did for each target task, and how well predictors rank these gains."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pipeline.ranking.rank_agreement import RankAgreement, rank_agreement
from pipeline.studies.analysis.estimates import (
    ArmComparison,
    Change,
    NegativeTransfer,
    TransferGain,
    Verdict,
)
from pipeline.studies.analysis.score_table import baseline_arms
from pipeline.studies.results import Arm, StudyResults


def transfer_gains(
    results: StudyResults, comparisons: Mapping[str, ArmComparison]
) -> list[TransferGain]:
    """Return the gains of pairs and transfers: the target's score with its source less without."""
    gains = [
        (source, target, arm, comparisons[arm.name].changes[target])
        for arm in results.arms.values()
        if arm.name in comparisons
        for source, target in directions(arm)
        if target in comparisons[arm.name].changes
    ]
    strong = _strong(gains)
    found = []
    for source, target, arm, gain in gains:
        all_hurt = arm.kind == "pair" and (source, target) in strong
        kinds: dict[Verdict, NegativeTransfer] = {"helped": "none", "unclear": "unclear"}
        negative = kinds.get(gain.verdict, "strong" if all_hurt else "weak")
        found.append(TransferGain(source, target, arm.name, gain, negative))
    return found


def directions(arm: Arm) -> Iterator[tuple[str, str]]:
    """Yield (source, target) of an arm: both ways of a pair."""
    if arm.kind == "transfer" and arm.source is not None:
        yield from ((arm.source, target) for target in arm.tasks)
    elif arm.kind == "pair" and len(arm.tasks) == 2:
        one, other = arm.tasks
        yield from ((other, one), (one, other))


def _strong(gains: list[tuple[str, str, Arm, Change]]) -> set[tuple[str, str]]:
    """Return the (source, target) of which two pairs or more with all labels tried, all hurt.

    Strong negative transfer: max over weights of TG < 0. Each hurts by its own adjusted test, so
    the claim that all do is at least as sure as each.

    Source: Jiang et al. 2023 (ForkMerge), definition 3.1.
    """
    tried: dict[tuple[str, str], list[str]] = {}
    for source, target, arm, gain in gains:
        if arm.kind == "pair" and arm.labels == 1:
            tried.setdefault((source, target), []).append(gain.verdict)
    return {key for key, all_ in tried.items() if len(all_) > 1 and set(all_) == {"hurt"}}


SIZE = "size_rows"  # the baseline: sources with more labels are better

Values = Mapping[str, Mapping[str, float]]  # {target task: {source task: value}}


def predictor_agreements(
    results: StudyResults, transfers: Sequence[TransferGain], seed: int
) -> dict[str, RankAgreement]:
    """Return how well each predictor, and the number of labels, rank the sources of each target."""
    gains = measured_gains(results, transfers)
    if not gains:
        return {}
    known: dict[str, Values] = dict(results.predictors)
    if SIZE not in known and (size := source_sizes(results)):
        known[SIZE] = size
    return {name: _agreement(values, gains, seed) for name, values in known.items()}


def measured_gains(
    results: StudyResults, transfers: Sequence[TransferGain]
) -> dict[str, dict[str, float]]:
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


def source_sizes(results: StudyResults) -> dict[str, dict[str, float]]:
    rows: dict[str, float] = {}
    for (task, share), arm in baseline_arms(results).items():
        known = [t.labels[task] for t in results.finished(arm) if t.labels.get(task)]
        if share == 1 and known:
            rows[task] = float(np.mean(known))
    return {target: {s: n for s, n in rows.items() if s != target} for target in rows}


def _agreement(values: Values, gains: Values, seed: int) -> RankAgreement:
    sources = sorted({source for own in gains.values() for source in own})

    def column(own: Mapping[str, float]) -> np.ndarray:
        found = [own.get(source, math.nan) for source in sources]
        return np.array([one if math.isfinite(one) else math.nan for one in found])

    return rank_agreement(
        [(column(values.get(t, {})), column(own)) for t, own in gains.items()], seed
    )
