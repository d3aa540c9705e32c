"""Scores every source for every task of the target."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from torch import Tensor

from lightning_modules.transferability.base import (
    Absent,
    Evidence,
    EvidenceKind,
    Score,
    UnavailableError,
)
from pipeline.ranking.candidates import (
    CandidateSource,
    FeatureBlock,
    SourceRepresentation,
    mismatch,
)
from pipeline.ranking.target_sample import TargetSample, TargetTask
from pipeline.ranking.task_affinity import TaskRelations
from pollinate.errors import UsageError

OF_TASKS = "tasks of one run share one network: none has weights, features or classes of its own"
OF_MODELS = "losses and gradients are compared between tasks of the target's own run only"
UNREADABLE = "the source could read none of the task's rows"
NOT_FINITE = "the source's features are not all finite numbers"
ITSELF = "it is the task itself"


@dataclass
class PartEvidence:
    """What one part of a source, "" for the whole of it, says of ``rows`` rows of a task."""

    part: str
    rows: int
    evidence: Evidence


EvidenceByReads = dict[EvidenceKind, list[PartEvidence]]


def model_evidence(
    source: CandidateSource,
    seen: SourceRepresentation,
    name: str,
    task: TargetTask,
    compared: SourceRepresentation | None,
) -> EvidenceByReads:
    """Return what is known of a model for a task."""
    if not source.reads(task.modalities):
        return no_evidence(mismatch(source, task.modalities))
    whole = Evidence(
        parameters=source.parameters(task.modalities),
        rows=source.rows,
        affinity=Absent(OF_MODELS),
        cosine=Absent(OF_MODELS),
    )
    size, unreadable = [PartEvidence("", 0, whole)], no_evidence(UNREADABLE)
    return {
        EvidenceKind.SIZE: size,
        EvidenceKind.RUN: size,
        EvidenceKind.FEATURES: list(feature_evidence(seen, name, task, compared))
        or unreadable[EvidenceKind.FEATURES],
        EvidenceKind.HEADS: list(head_evidence(seen, task)) or unreadable[EvidenceKind.HEADS],
    }


def feature_evidence(
    seen: SourceRepresentation, name: str, task: TargetTask, compared: SourceRepresentation | None
) -> Iterator[PartEvidence]:
    for part, block in seen.features.items():
        rows = np.intersect1d(task.rows, block.rows)
        other = None if compared is None else reference_block(compared, name)
        if other is not None:
            rows = np.intersect1d(rows, other.rows)
        if len(rows):
            labels = at(task.labels, task, rows)
            reference = labels if compared is None else Absent(UNREADABLE)
            values = block.at(rows)
            evidence = Evidence(
                features=values if values.isfinite().all() else Absent(NOT_FINITE),
                labels=labels,
                classes=at(task.classes, task, rows),
                reference=reference if other is None else other.at(rows),
            )
            yield PartEvidence(part, len(rows), evidence)


def head_evidence(seen: SourceRepresentation, task: TargetTask) -> Iterator[PartEvidence]:
    for head, block in seen.probabilities.items():
        if isinstance(block, Absent):
            yield PartEvidence(head, 0, Evidence(probabilities=block, classes=task.classes))
            continue
        rows = np.intersect1d(task.rows, block.rows)
        if len(rows):
            classes = at(task.classes, task, rows)
            yield PartEvidence(
                head, len(rows), Evidence(probabilities=block.at(rows), classes=classes)
            )


def reference_block(compared: SourceRepresentation, task: str) -> FeatureBlock | None:
    return compared.features.get(task, next(iter(compared.features.values()), None))


def at(values: Tensor | Absent, task: TargetTask, rows: np.ndarray) -> Tensor | Absent:
    if isinstance(values, Absent):
        return values
    order = np.argsort(task.rows)
    return values[torch.from_numpy(order[np.searchsorted(task.rows[order], rows)])]


def task_evidence(relations: TaskRelations, source: str, target: str) -> EvidenceByReads:
    if source == target:
        return no_evidence(ITSELF)
    found = no_evidence(OF_TASKS)
    known = Evidence(
        parameters=Absent(OF_TASKS),
        rows=relations.rows[source],
        affinity=relations.of(relations.affinities, source, target),
        cosine=relations.of(relations.cosines, source, target),
    )
    found[EvidenceKind.SIZE] = found[EvidenceKind.RUN] = [PartEvidence("", 0, known)]
    return found


def no_evidence(reason: str) -> EvidenceByReads:
    absent = Absent(reason)
    evidence = Evidence(**{one.name: absent for one in fields(Evidence)})
    return {reads: [PartEvidence("", 0, evidence)] for reads in EvidenceKind}


TASK = "task:"  # begins the name of a task of the target as a source


@dataclass
class ScoreOutcome:
    """One score of one source for one task.

    value: larger is better; None: it can't be had, and ``reason`` says why.
    seconds: that it took, features not counted.
    rows: of the target that it looked at, 0 for scores that look at none.
    part: of the source, the best of several.
    """

    value: float | None
    seconds: float = 0.0
    rows: int = 0
    part: str = ""
    reason: str | None = None


Outcomes = dict[str, dict[str, dict[str, ScoreOutcome]]]  # {task: {source: {score: outcome}}}


@dataclass
class Ranking:
    """What came of it.

    tasks: of the target; scores: {name: score}; outcomes: of every score.
    kinds: names of the sources, of the models and of the target's own tasks: each kind is ranked
        for itself.
    seconds: {source: its features}; run_seconds: of the short run, {run, affinity, cosine}.
    """

    tasks: dict[str, TargetTask]
    scores: dict[str, Score]
    outcomes: Outcomes
    kinds: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))
    seconds: dict[str, float] = field(default_factory=dict)
    run_seconds: dict[str, float] = field(default_factory=dict)

    @property
    def sources(self) -> list[str]:
        return [*self.kinds[0], *self.kinds[1]]

    def values(self, task: str, score: str, sources: Sequence[str]) -> dict[str, float]:
        """Return {source: value} of those of the sources that have one, best first."""
        found = {
            source: value
            for source in sources
            if (value := self.outcomes[task][source][score].value) is not None
        }
        order = sorted(found, key=lambda source: found[source], reverse=True)
        return {source: found[source] for source in order}


def rank_sources(
    target: TargetSample,
    sources: Sequence[CandidateSource],
    scores: Mapping[str, Score],
    batch_size: int,
    reference: CandidateSource | None = None,
    relations: TaskRelations | None = None,
) -> Ranking:
    """Score models, and the target's own tasks, for each task of the target.

    Args:
        target: its rows and labels.
        sources: models, each of which fits some task.
        scores: {name: score}.
        batch_size: rows that a source encodes at a time, >= 1.
        reference: a model of the target, whose features CKA compares with.
        relations: of the target's tasks; None: they are no sources.
    """
    found = Ranking(target.tasks, dict(scores), {task: {} for task in target.tasks})
    models, tasks = found.kinds
    looks = any(
        score.reads in (EvidenceKind.FEATURES, EvidenceKind.HEADS) for score in scores.values()
    )
    compared = None if reference is None else represent(reference, target, batch_size)
    for source in sources:
        started = time.perf_counter()
        seen = represent(source, target, batch_size) if looks else SourceRepresentation({}, {})
        seconds = time.perf_counter() - started
        found.seconds[source.name] = seconds
        models.append(source.name)
        for name, task in target.tasks.items():
            pieces = model_evidence(source, seen, name, task, compared)
            found.outcomes[name][source.name] = outcomes(scores, pieces)
    if relations is not None:
        found.run_seconds = relations.seconds
        for other in relations.tasks:
            tasks.append(f"{TASK}{other}")
            for name in target.tasks:
                pieces = task_evidence(relations, other, name)
                found.outcomes[name][f"{TASK}{other}"] = outcomes(scores, pieces)
    return found


def require_fit(source: CandidateSource, tasks: Mapping[str, Sequence[str]]) -> None:
    if not any(source.reads(modalities) for modalities in tasks.values()):
        theirs = sorted({name for modalities in tasks.values() for name in modalities})
        raise UsageError(
            f"source {mismatch(source, theirs)}, which the tasks {', '.join(tasks)} are predicted "
            "from; leave it out, or choose other data: data=FILE"
        )


def represent(
    source: CandidateSource, target: TargetSample, batch_size: int
) -> SourceRepresentation:
    columns = {name: own for name, own in target.columns.items() if name in source.modalities}
    return source.represent(columns, batch_size)


def outcomes(scores: Mapping[str, Score], pieces: EvidenceByReads) -> dict[str, ScoreOutcome]:
    return {name: best_outcome(score, pieces[score.reads]) for name, score in scores.items()}


def best_outcome(score: Score, pieces: Sequence[PartEvidence]) -> ScoreOutcome:
    found = [score_part(score, piece) for piece in pieces]
    top = max(found, key=lambda one: -math.inf if one.value is None else one.value)
    top.seconds = sum(one.seconds for one in found)
    return top


def score_part(score: Score, piece: PartEvidence) -> ScoreOutcome:
    started = time.perf_counter()
    try:
        value = score.score(piece.evidence)
    except UnavailableError as error:
        return ScoreOutcome(None, time.perf_counter() - started, reason=str(error))
    seconds = time.perf_counter() - started
    if not math.isfinite(value):
        reason = f"it is {value}: the source's features or answers are not finite numbers"
        return ScoreOutcome(None, seconds, piece.rows, piece.part, reason)
    return ScoreOutcome(value, seconds, piece.rows, piece.part)
