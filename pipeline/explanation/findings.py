"""What was found of a model's answers, and the same as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from lightning_modules.explanation.checks import Check, mean
from lightning_modules.explanation.explainer import Explanation
from lightning_modules.explanation.features import Taken
from lightning_modules.explanation.parts import coarsened
from lightning_modules.explanation.ranks import parted
from lightning_modules.tasks.base import Task

SIDE = 32  # cells of a map in JSON: sums of the pixels in them
DIGITS = 6  # significant ones of numbers in JSON
TEXT = "text"
PARTED = 0.05  # difference of shares from which on a word is one where two models part
PARTING_WORDS = 4


@dataclass(frozen=True)
class TrainingExample:
    """A training row that is like an explained one.

    similarity: cosine of what the task reads of the two; label: of the task.
    parts: what a page shows of it: {"text": ...} or {"picture": address}.
    """

    dataset: str
    place: str
    similarity: float
    label: str
    parts: tuple[Mapping[str, str], ...] = ()


@dataclass
class OtherExplanation:
    """The same answer of the same row, explained by another model.

    explanation: of it; correlations: {modality: rank correlation of the pieces, None where all of a
        row's are equal}.
    """

    explanation: Explanation
    correlations: dict[str, float | None]

    def parting(self, own: Explanation) -> list[tuple[str, float, float]]:
        """Return the words whose shares of the two explanations differ most, and the shares."""
        if TEXT not in self.correlations or own.text is None:
            return []
        first, second = own.pieces[TEXT], self.explanation.pieces[TEXT]
        apart = parted(first, second).abs()
        shares = [one / one.abs().sum().clamp(min=1e-12) for one in (first, second)]
        order = apart.argsort(descending=True, stable=True)[:PARTING_WORDS]
        return [
            (own.text.names[n], float(shares[0][n]), float(shares[1][n]))
            for n in order[apart[order] >= PARTED].tolist()
        ]


@dataclass
class ExplainedAnswer:
    """An explanation with what stands beside it."""

    explanation: Explanation
    examples: list[TrainingExample] = field(default_factory=list)
    other: OtherExplanation | None = None


@dataclass
class TaskFindings:
    """A task's part.

    meaning: of its scores; sources: what it takes from where; alike: {modality: correlations with
        the other model's explanations}.
    """

    task: Task
    meaning: str
    answers: list[ExplainedAnswer] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    sources: Taken = field(default_factory=dict)

    @property
    def alike(self) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for one in self.answers:
            for modality, value in (one.other.correlations if one.other else {}).items():
                if value is not None:
                    found.setdefault(modality, []).append(value)
        return found


@dataclass
class Findings:
    """All that was found.

    checkpoint, other: what the models are called; input: the rows' name; total: its rows.
    tasks: {name: what was found}; errors: {row from 1: why it can't be read}; notes: for people.
    """

    checkpoint: str
    input: str
    total: int
    rows: int
    tasks: dict[str, TaskFindings]
    other: str | None = None
    errors: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def doubts(self) -> list[str]:
        """Return what checks and sums found against the explanations; nothing is the best."""
        return [doubt for name, own in self.tasks.items() for doubt in task_doubts(name, own)]


MISSING = 0.05  # of a score, from which on a sum is said to be incomplete


def task_doubts(name: str, found: TaskFindings) -> Iterator[str]:
    for check in found.checks:
        if check.depends_on_weights is False:
            yield (
                f"{name}, {check.modality}: explanations hardly change where the weights are "
                f"shuffled (rank correlation {mean(check.shuffled):.2f}); they are of the input "
                "more than of what was learnt"
            )
        if check.beats_random is False:
            yield (
                f"{name}, {check.modality}: leaving out what counts most changes the answer hardly "
                f"more than leaving out anything (deletion {mean(check.deletion):+.2f}, insertion "
                f"{mean(check.insertion):+.2f}); don't trust their order"
            )
    incomplete = [one for one in found.answers if one.explanation.gap > MISSING]
    if incomplete:
        worst = max(one.explanation.gap for one in incomplete)
        yield (
            f"{name}: of {len(incomplete)} answers the parts don't sum up to the whole (up to "
            f"{worst:.0%} is missing); raise steps"
        )


def as_json(found: Findings) -> dict[str, Any]:
    """Return everything as plain values."""
    return {
        "checkpoint": found.checkpoint,
        "other": found.other,
        "input": found.input,
        "rows": found.rows,
        "rows_of_input": found.total,
        "doubts": found.doubts(),
        "notes": found.notes,
        "errors": {str(row): why for row, why in sorted(found.errors.items())},
        "tasks": {name: task_json(own) for name, own in found.tasks.items()},
    }


def task_json(found: TaskFindings) -> dict[str, Any]:
    return {
        "type": type(found.task).__name__,
        "score": found.meaning,
        "takes": found.sources,
        "checks": [check_json(check) for check in found.checks],
        "alike": {
            modality: {"rank_correlation": short(mean(own)), "rows": len(own)}
            for modality, own in found.alike.items()
        },
        "answers": [answer_json(one, found.task) for one in found.answers],
    }


def check_json(check: Check) -> dict[str, Any]:
    return {
        "modality": check.modality,
        "rows": max(len(check.shuffled), len(check.deletion)),
        "shuffled_weights": short(mean(check.shuffled)) if check.shuffled else None,
        "depends_on_weights": check.depends_on_weights,
        "deletion_gain": short(mean(check.deletion)) if check.deletion else None,
        "insertion_gain": short(mean(check.insertion)) if check.insertion else None,
        "beats_random": check.beats_random,
    }


def answer_json(found: ExplainedAnswer, task: Task) -> dict[str, Any]:
    own = found.explanation
    shown: dict[str, Any] = {
        "row": own.row + 1,
        "answer": own.name,
        "says": {f"{suffix or '_label'}"[1:]: v for suffix, v in task.cells(own.label).items()},
        "score": short(own.score),
        "score_of_nothing": short(own.nothing),
        "missing": short(own.gap),
        "parts": parts_json(own),
        "modalities": {name: short(value) for name, value in own.modalities.items()},
        "examples": [
            {
                "dataset": one.dataset,
                "place": one.place,
                "similarity": short(one.similarity),
                "label": one.label,
            }
            for one in found.examples
        ],
    }
    if found.other is not None:
        other = found.other.explanation
        shown["other"] = {
            "says": task.cells(other.label).get(""),
            "score": short(other.score),
            "rank_correlation": {
                name: None if value is None else short(value)
                for name, value in found.other.correlations.items()
            },
            "where_they_part": [
                {"text": word, "share": short(here), "share_of_other": short(there)}
                for word, here, there in found.other.parting(own)
            ],
            "parts": parts_json(other),
        }
    return shown


def parts_json(found: Explanation) -> dict[str, Any]:
    """Return what each piece adds: words by name, maps as at most 32 x 32 cells."""
    return {
        modality: words_json(found, pieces) if pieces.dim() == 1 else map_json(pieces)
        for modality, pieces in found.pieces.items()
    }


def words_json(found: Explanation, pieces: Tensor) -> list[dict[str, Any]]:
    assert found.text is not None
    spans = found.text.spans.tolist()
    return [
        {"text": name, "start": start, "end": end, "adds": short(value)}
        for name, (start, end), value in zip(found.text.names, spans, pieces.tolist(), strict=True)
    ]


def map_json(pieces: Tensor) -> dict[str, Any]:
    cells = summed(pieces, SIDE)
    return {
        "shape": list(pieces.shape),
        "cells": [[short(value) for value in row] for row in cells.tolist()],
    }


def summed(pieces: Tensor, side: int) -> Tensor:
    """Return sums of at most side x side cells of a map, whose sum is the map's."""
    shape = [min(side, own) for own in pieces.shape]
    cells = coarsened(pieces, shape)
    total = pieces.sum()
    return cells * (pieces.numel() / cells.numel()) if cells.numel() and total.isfinite() else cells


def short(value: float) -> float:
    """Return a number with as many digits as mean anything."""
    return float(np.format_float_positional(value, DIGITS, fractional=False))
