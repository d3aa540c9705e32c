"""What each source task did for each target task, and whether it hurt whatever its weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.studying.answers import Change, Comparison, Negative, Transfer
from pipeline.studying.results import Arm, Results


def transfers(results: Results, comparisons: Mapping[str, Comparison]) -> list[Transfer]:
    """Return the gains of pairs and of transfers, TG(source -> target) = score with - alone."""
    gains = [
        (source, target, arm, comparisons[arm.name].changes[target])
        for arm in results.arms.values()
        if arm.name in comparisons
        for source, target in directions(arm)
        if target in comparisons[arm.name].changes
    ]
    strong = _strong([(source, target, arm, gain) for source, target, arm, gain in gains])
    return [
        Transfer(source, target, arm.name, gain, _negative(gain, (source, target) in strong, arm))
        for source, target, arm, gain in gains
    ]


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


def _negative(gain: Change, strong: bool, arm: Arm) -> Negative:
    if gain.verdict == "hurt":
        return "strong" if strong and arm.kind == "pair" else "weak"
    return "none" if gain.verdict == "helped" else "unclear"
