"""What is known of a source for a task, for the scores to look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from lightning_modules.transferability.base import Absent, Evidence, Reads
from pipeline.ranking.short_run import Relations
from pipeline.ranking.source import Block, Represented, Source, differing
from pipeline.ranking.target import TargetTask

OF_TASKS = "tasks of one run share one network: none has weights, features or classes of its own"
OF_MODELS = "losses and gradients are compared between tasks of the target's own run only"
UNREADABLE = "the source could read none of the task's rows"
NOT_FINITE = "the source's features are not all finite numbers"
ITSELF = "it is the task itself"


@dataclass
class Piece:
    """What one part of a source, "" for the whole of it, says of ``rows`` rows of a task."""

    part: str
    rows: int
    evidence: Evidence


Pieces = dict[Reads, list[Piece]]


def of_model(
    source: Source, seen: Represented, name: str, task: TargetTask, compared: Represented | None
) -> Pieces:
    """Return what is known of a model for a task.

    Args:
        source: the model.
        seen: what it made of the target's rows.
        name: of the task.
        task: its rows and labels.
        compared: what a model of the target made of the rows; None: features are compared with
            labels.
    """
    if not source.reads(task.modalities):
        return nothing(differing(source, task.modalities))
    whole = Evidence(
        parameters=source.parameters(task.modalities),
        rows=source.rows,
        affinity=Absent(OF_MODELS),
        cosine=Absent(OF_MODELS),
    )
    size, unreadable = [Piece("", 0, whole)], nothing(UNREADABLE)
    return {
        Reads.SIZE: size,
        Reads.RUN: size,
        Reads.FEATURES: list(features(seen, name, task, compared)) or unreadable[Reads.FEATURES],
        Reads.HEADS: list(heads(seen, task)) or unreadable[Reads.HEADS],
    }


def features(
    seen: Represented, name: str, task: TargetTask, compared: Represented | None
) -> Iterator[Piece]:
    """Yield the features that each part of a source gives to a task's rows."""
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
            yield Piece(part, len(rows), evidence)


def heads(seen: Represented, task: TargetTask) -> Iterator[Piece]:
    """Yield what each head of a source says of a task's rows."""
    for head, block in seen.probabilities.items():
        if isinstance(block, Absent):
            yield Piece(head, 0, Evidence(probabilities=block, classes=task.classes))
            continue
        rows = np.intersect1d(task.rows, block.rows)
        if len(rows):
            classes = at(task.classes, task, rows)
            yield Piece(head, len(rows), Evidence(probabilities=block.at(rows), classes=classes))


def reference_block(compared: Represented, task: str) -> Block | None:
    """Return the features that a model of the target gives to a task, None if it gives none."""
    return compared.features.get(task, next(iter(compared.features.values()), None))


def at(values: Tensor | Absent, task: TargetTask, rows: np.ndarray) -> Tensor | Absent:
    """Return a task's values of some of its rows."""
    if isinstance(values, Absent):
        return values
    order = np.argsort(task.rows)
    return values[torch.from_numpy(order[np.searchsorted(task.rows[order], rows)])]


def of_task(relations: Relations, source: str, target: str) -> Pieces:
    """Return what is known of a task of the target as a source for another one."""
    if source == target:
        return nothing(ITSELF)
    found = nothing(OF_TASKS)
    known = Evidence(
        parameters=Absent(OF_TASKS),
        rows=relations.rows[source],
        affinity=relations.of(relations.affinities, source, target),
        cosine=relations.of(relations.cosines, source, target),
    )
    found[Reads.SIZE] = found[Reads.RUN] = [Piece("", 0, known)]
    return found


def nothing(reason: str) -> Pieces:
    """Return that nothing can be had, and why."""
    absent = Absent(reason)
    evidence = Evidence(**{one.name: absent for one in fields(Evidence)})
    return {reads: [Piece("", 0, evidence)] for reads in Reads}
