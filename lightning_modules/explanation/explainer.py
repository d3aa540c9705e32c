"""Explains a trained model's answers: what each piece of a row adds to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from datamodules.modalities.forms import forms_of
from datamodules.modalities.text import TextModality
from datamodules.modalities.text_pieces import TextPieces
from lightning_modules.explanation.explained_rows import ExplainedRows, ExplainedTask
from lightning_modules.explanation.shapley import shapley_values
from lightning_modules.predictor import Columns, Predictor, RowBatch
from lightning_modules.task_network import TaskNetwork
from lightning_modules.tasks.base import Label
from lightning_modules.views import TEXT
from pollinate.errors import UsageError

TOLERANCE = 0.05  # of what all pieces add, that may be missing from their sum
FINER = 3  # times as many steps where more is missing
MOST_STEPS = 256


@dataclass
class Explanation:
    """One answer of one row.

    row: its number; task: its name; answer: the number and name of what is explained.
    label: what the model says to the row.
    score: by which the answer is explained; nothing: the same of a row that says nothing.
    pieces: {modality: what each piece adds to the score}: of words (P,), pixels (H, W), cells of a
        spectrogram (L, F); their sum is score - nothing, but for ``gap``.
    text: in pieces, if the row has one.
    values: {modality: (C, H, W) or (L, F)} of pictures and sounds.
    modalities: {modality: its Shapley value}, of rows that have several.
    """

    row: int
    task: str
    answer: int
    name: str
    label: Label
    score: float
    nothing: float
    pieces: dict[str, Tensor]
    text: TextPieces | None
    values: dict[str, Tensor] = field(default_factory=dict)
    modalities: dict[str, float] = field(default_factory=dict)

    @property
    def gap(self) -> float:
        """Return what the pieces' sum lacks, as a share of the difference or of 1."""
        total = sum(float(one.double().sum()) for one in self.pieces.values())
        change = self.score - self.nothing
        return abs(change - total) / max(abs(change), SMALLEST)


SMALLEST = 0.1  # of a score, below which what is missing is no share of it


@dataclass
class ExplainedBatch:
    """Answers that were explained together, and the rows that they are of.

    places: which of the rows each explanation is of.
    """

    rows: ExplainedRows
    places: list[int]
    explanations: list[Explanation]


class Explainer:
    """Explains answers of a model.

    Args:
        predictor: of the model.
        steps: points between nothing and a row, >= 1; up to 256 where they don't suffice.
        answers: {task: the answer that is explained}; else the one that the model gives.
        named: {(task, row): names of the answers that are explained}, in place of both.
    """

    def __init__(
        self,
        predictor: Predictor,
        steps: int,
        answers: Mapping[str, str] | None = None,
        named: Mapping[tuple[str, int], Sequence[str]] | None = None,
    ) -> None:
        self.predictor = predictor
        self.steps = steps
        self.answers = dict(answers or {})
        self.named = named

    def task(self, name: str, network: TaskNetwork | None = None) -> ExplainedTask:
        """Return a task that can be explained.

        Args:
            name: of the task.
            network: in place of the model's.

        Raises:
            UsageError: its answers can't be.
        """
        self.predictor.check_task(name)
        task = self.predictor.tasks[name]
        scores = task.answer_scores()
        if scores is None:
            others = [n for n, t in self.predictor.tasks.items() if t.answer_scores() is not None]
            can = f"tasks of the checkpoint that can: {', '.join(others)}" if others else "none can"
            raise UsageError(
                f"task {name} is of type {type(task).__name__}, whose answers can't be explained; "
                f"{can}. Types that can: classification, multilabel, ordinal, regression, tagging, "
                "retrieval"
            )
        return ExplainedTask(network or self.predictor.network, name, task, scores)

    def explain(
        self, columns: Columns, tasks: Sequence[str], batch_size: int, errors: dict[int, str]
    ) -> Iterator[ExplainedBatch]:
        """Explain rows, some at a time.

        Args:
            columns, errors: as for ``Predictor.outputs``.
            tasks: that can be explained; those that a row lacks the input of are left out.
            batch_size: points that go through the network together, >= 1.

        Raises:
            UsageError: captum isn't installed, or an encoder's inputs can't be explained.
        """
        size = max(1, batch_size // self.steps)
        for given in self.predictor.batches(columns, tasks, size, errors):
            texts = self._texts(columns, given)
            for name in given.routes:
                rows = ExplainedRows(self.task(name), given, texts)
                yield self._explained(rows, given)

    def _texts(self, columns: Columns, given: RowBatch) -> dict[str, list[TextPieces]]:
        if TEXT not in given.modalities:
            return {}
        found = {}
        for form in forms_of(TEXT, self.predictor.modalities):
            modality = cast("TextModality", self.predictor.modalities[form])
            found[form] = [modality.pieces(columns[TEXT][row]) for row in given.rows]
        return found

    def _explained(self, rows: ExplainedRows, given: RowBatch) -> ExplainedBatch:
        name, scores = rows.explained.name, rows.explained.scores
        with torch.no_grad():
            output = rows.answers(rows.batch)
        if self.named is not None:
            names = [self.named.get((name, row), ()) for row in given.rows]
            found = [[scores.number(one) for one in own] for own in names]
            chosen = [[number for number in own if number is not None] for own in found]
        elif name in self.answers:
            chosen = scores.wanted(self.answers[name], output)
        else:
            chosen = scores.given(output)
        pairs = [(place, answer) for place, own in enumerate(chosen) for answer in own]
        labels = self.predictor.decode(name, output)
        explained = [
            explanation
            for start in range(0, len(pairs), len(rows))
            for explanation in self._some(rows, given, pairs[start : start + len(rows)], labels)
        ]
        return ExplainedBatch(rows, [place for place, _ in pairs], explained)

    def _some(
        self,
        rows: ExplainedRows,
        given: RowBatch,
        pairs: Sequence[tuple[int, int]],
        labels: Sequence[Label],
    ) -> list[Explanation]:
        places, answers = [place for place, _ in pairs], [answer for _, answer in pairs]
        whole = rows.score_of(answers, places, {}).tolist()
        nothing = rows.score_of(answers, places).tolist()
        pieces = rows.attribute(answers, places, self.steps)
        found = []
        for number, (place, answer) in enumerate(pairs):
            found.append(
                Explanation(
                    given.rows[place],
                    rows.explained.name,
                    answer,
                    rows.explained.scores.name(answer),
                    labels[place],
                    whole[number],
                    nothing[number],
                    {modality: own[number] for modality, own in pieces.items()},
                    rows.texts[place] if rows.texts else None,
                    shown_values(rows, place),
                )
            )
        self._refine(rows, places, found)
        self._add_modalities(rows, places, answers, found)
        return found

    def _refine(
        self, rows: ExplainedRows, places: Sequence[int], found: Sequence[Explanation]
    ) -> None:
        """Go more finely from nothing to the rows of which too much is missing."""
        steps = self.steps
        while steps < MOST_STEPS:
            steps = min(MOST_STEPS, FINER * steps)
            coarse = [n for n, one in enumerate(found) if one.gap > TOLERANCE]
            size = max(1, len(rows) * self.steps // steps)  # as many points at a time as before
            for start in range(0, len(coarse), size):
                some = coarse[start : start + size]
                again = rows.attribute(
                    [found[n].answer for n in some], [places[n] for n in some], steps
                )
                for place, number in enumerate(some):
                    found[number].pieces = {m: own[place] for m, own in again.items()}

    def _add_modalities(
        self,
        rows: ExplainedRows,
        places: Sequence[int],
        answers: Sequence[int],
        found: Sequence[Explanation],
    ) -> None:
        players = sorted(rows.modalities)
        if len(players) < 2:
            return
        values = shapley_values(
            lambda those: rows.score_without(frozenset(players) - those, answers, places), players
        )
        for number, one in enumerate(found):
            one.modalities = {player: float(own[number]) for player, own in values.items()}


def shown_values(rows: ExplainedRows, place: int) -> dict[str, Any]:
    """Return a row's pictures and sounds, as the encoders take them; of sounds what is real."""
    found = {}
    for modality, values in rows.batch.inputs.items():
        if modality in rows.modalities and modality != TEXT:  # in its first form
            own = values[place].detach().cpu()
            found[modality] = own if own.dim() == 3 else own[~own.isnan().any(dim=1)]
    return found
