"""Scores every source for every task of the target."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lightning_modules.transferability.base import Reads, Score, UnavailableError
from pipeline.errors import UsageError
from pipeline.ranking.evidence import Piece, Pieces, of_model, of_task
from pipeline.ranking.short_run import Relations
from pipeline.ranking.source import Represented, Source, differing, readable
from pipeline.ranking.target import Target, TargetTask

TASK = "task:"  # begins the name of a task of the target as a source


@dataclass
class Outcome:
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


Outcomes = dict[str, dict[str, dict[str, Outcome]]]  # {task: {source: {score: outcome}}}


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
        """Names of all sources, models first."""
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


def rank(
    target: Target,
    sources: Sequence[Source],
    scores: Mapping[str, Score],
    batch_size: int,
    reference: Source | None = None,
    relations: Relations | None = None,
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
    looks = any(score.reads in (Reads.FEATURES, Reads.HEADS) for score in scores.values())
    compared = None if reference is None else represented(reference, target, batch_size)
    for source in sources:
        started = time.perf_counter()
        seen = represented(source, target, batch_size) if looks else Represented({}, {})
        seconds = time.perf_counter() - started
        found.seconds[source.name] = seconds
        models.append(source.name)
        for name, task in target.tasks.items():
            pieces = of_model(source, seen, name, task, compared)
            found.outcomes[name][source.name] = outcomes(scores, pieces)
    if relations is not None:
        found.run_seconds = relations.seconds
        for other in relations.tasks:
            tasks.append(f"{TASK}{other}")
            for name in target.tasks:
                pieces = of_task(relations, other, name)
                found.outcomes[name][f"{TASK}{other}"] = outcomes(scores, pieces)
    return found


def require_fit(source: Source, tasks: Mapping[str, Sequence[str]]) -> None:
    """Check that a source reads the rows of some task.

    Args:
        source: the source.
        tasks: {name: modalities of its rows}.

    Raises:
        UsageError: it reads none.
    """
    if not any(source.reads(modalities) for modalities in tasks.values()):
        theirs = sorted({name for modalities in tasks.values() for name in modalities})
        raise UsageError(
            f"source {differing(source, theirs)}, which the tasks {', '.join(tasks)} are predicted "
            "from; leave it out, or choose other data: data=FILE"
        )


def represented(source: Source, target: Target, batch_size: int) -> Represented:
    """Return what a source makes of the target's rows."""
    columns = readable(source, target.columns)
    return source.represent(columns, batch_size)


def outcomes(scores: Mapping[str, Score], pieces: Pieces) -> dict[str, Outcome]:
    """Return {score: what comes of it}."""
    return {name: best(score, pieces[score.reads]) for name, score in scores.items()}


def best(score: Score, pieces: Sequence[Piece]) -> Outcome:
    """Return the best value by any part of a source."""
    found = [measured(score, piece) for piece in pieces]
    top = max(found, key=lambda one: -math.inf if one.value is None else one.value)
    top.seconds = sum(one.seconds for one in found)
    return top


def measured(score: Score, piece: Piece) -> Outcome:
    """Return a score by one part of a source, or why there is none."""
    started = time.perf_counter()
    try:
        value = score.score(piece.evidence)
    except UnavailableError as error:
        return Outcome(None, time.perf_counter() - started, reason=str(error))
    seconds = time.perf_counter() - started
    if not math.isfinite(value):
        reason = f"it is {value}: the source's features or answers are not finite numbers"
        return Outcome(None, seconds, piece.rows, piece.part, reason)
    return Outcome(value, seconds, piece.rows, piece.part)
