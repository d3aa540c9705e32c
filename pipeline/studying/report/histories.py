"""What the trials' journals say over the steps."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from pipeline.runs import RunFolder
from pipeline.studying.report.subject import Subject
from pipeline.tracking.points import read_points

Series = dict[int, float]  # {optimizer step: value}
Histories = dict[str, dict[str, dict[int, Series]]]  # {key: {arm: {seed: series}}}


def histories(subject: Subject, folder: Path) -> Histories:
    """Read scores and cosines of the arms that curves are drawn of.

    Args:
        subject: the study.
        folder: of the study, to which trials' folders are relative.
    """
    found: Histories = defaultdict(lambda: defaultdict(dict))
    scores = {f"valid/{task}/{metric}" for task, metric in subject.results.metrics.items()}
    for arm in subject.arms("joint", "variant", "alone"):
        for trial in subject.results.finished(arm.name):
            for point in read_points(RunFolder(folder / trial.folder).metrics):
                drawn = point.key in scores or point.key.startswith("gradient/cosine/")
                if drawn and math.isfinite(point.value):
                    series = found[point.key][arm.name].setdefault(trial.seed, {})
                    series[point.step] = point.value
    return found


def mean(runs: Iterable[Series]) -> Series:
    """Return the mean at the steps that all runs have."""
    own = list(runs)
    steps = set(own[0]).intersection(*own[1:]) if own else set()
    return {step: sum(series[step] for series in own) / len(own) for step in sorted(steps)}
