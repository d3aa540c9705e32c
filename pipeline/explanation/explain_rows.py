"""Explains the rows of an input: what counts, whether that can be trusted, and what is alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from datamodules.batch import Batch
from datamodules.inputs import InputColumns, columns_named
from datamodules.sources.row_files import FileRow, RowFile
from lightning_modules.explanation.checks import Check, check_explanations, shuffled_network
from lightning_modules.explanation.explainer import ExplainedBatch, Explainer, Explanation
from lightning_modules.explanation.features import row_features, taken_from
from lightning_modules.explanation.ranks import rank_correlation
from lightning_modules.predictor import Predictor
from lightning_modules.task_network import TaskNetwork
from pipeline.explanation.findings import (
    ExplainedAnswer,
    Findings,
    OtherExplanation,
    TaskFindings,
)
from pipeline.explanation.training_rows import TrainingRows
from pipeline.prediction.input_files import OpenedInput, ReaderOptions, open_input
from pipeline.prediction.inputs import InputWording, match_columns, raw_values, trained_readings
from pipeline.prediction.predict_file import choose_tasks
from pipeline.prediction.predict_frame import FrameRows
from pipeline.trainer import explain_out_of_memory
from pollinate.errors import PollinateError, UsageError

Values = dict[str, list[Any]]


@dataclass
class ExplainOptions:
    """How rows are explained; see configs/explain.yaml.

    columns: {modality: column(s)}.
    """

    tasks: Sequence[str] | None = None
    answers: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, InputColumns] = field(default_factory=dict)
    rows: int = 100
    steps: int = 12
    examples: int = 3
    checks: int = 12
    seed: int = 0
    batch_size: int = 64


@dataclass
class ExplainedModel:
    """A checkpoint, and what predicts from it."""

    checkpoint: Path
    predictor: Predictor
    allow_targets: Sequence[str] = ()


def explain_source(
    model: ExplainedModel,
    source: RowFile,
    options: ExplainOptions,
    wording: InputWording,
    console: Console,
    other: ExplainedModel | None = None,
) -> Findings:
    """Explain the first rows of an input.

    Args:
        model: whose answers are explained.
        source: the rows; options: how; wording: of messages.
        console: where progress is shown.
        other: whose explanations of the same answers are compared.

    Raises:
        UsageError: captum isn't installed, or no task can be explained, or not as was asked.
    """
    predictor = model.predictor
    columns = match_columns(predictor.inputs, source, options.columns, wording)
    explainer = Explainer(predictor, options.steps, options.answers)
    tasks, notes = explainable_tasks(explainer, list(columns), options, wording)
    rows = first_rows(source, columns, options.rows)
    values, errors = raw_values(rows, columns, source.folder, source.empty)
    if source.count > len(rows):
        notes.append(
            f"the first {len(rows):,} of {source.count:,} rows are explained; rows=N: more"
        )
    found = Findings(
        str(model.checkpoint),
        str(source.path),
        source.count,
        len(rows),
        {name: task_findings(explainer, name) for name in tasks},
        None if other is None else str(other.checkpoint),
        notes=notes,
    )
    work = Work(explainer, options, found, checked_rows(len(rows), options))
    with explain_out_of_memory("batch_size", options.batch_size):
        with_training = training_rows(model, options, found)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            doing = bar.add_task("explaining", total=len(rows) * len(tasks))
            for batch in explainer.explain(values, tasks, options.batch_size, errors):
                work.add(batch, with_training)
                bar.advance(doing, len(batch.rows))
        work.add_sources()
        if other is not None:
            add_other(found, other, values, options, console)
    found.errors = {row + 1: why for row, why in errors.items()}
    for own in found.tasks.values():
        own.answers.sort(key=lambda one: one.explanation.row)
    if not any(own.answers for own in found.tasks.values()):
        reasons = "; ".join(f"row {row}: {why}" for row, why in sorted(found.errors.items())[:3])
        raise PollinateError(
            f"no row of {source.path} has an answer to explain{': ' if reasons else ''}{reasons}"
        )
    return found


def first_rows(source: RowFile, columns: Mapping[str, InputColumns], count: int) -> list[FileRow]:
    """Return the first rows of an input."""
    if isinstance(source, FrameRows):
        return source.read(columns)[:count]
    return next(source.chunks(count))


def open_rows(
    predictor: Predictor, path: Path, options: ExplainOptions, **reader: Any
) -> OpenedInput:
    """Open a file as training read its own; ``reader`` has what ``ReaderOptions`` has."""
    trained = trained_readings(predictor.inputs, predictor.readings)
    named = [name for given in options.columns.values() for name in columns_named(given)]
    wanted = [*named, *predictor.modality_names]
    return open_input(path, ReaderOptions(**reader), trained, wanted)


def explainable_tasks(
    explainer: Explainer,
    modalities: Sequence[str],
    options: ExplainOptions,
    wording: InputWording,
) -> tuple[list[str], list[str]]:
    """Return the tasks that are explained, and notes on those that aren't.

    Raises:
        UsageError: a task that was named can't be explained, or none can.
    """
    predictor = explainer.predictor
    chosen = choose_tasks(predictor, modalities, options.tasks, wording)
    can = [name for name in chosen if predictor.tasks[name].answer_scores() is not None]
    if options.tasks is not None or not can:
        for name in chosen:
            explainer.task(name)  # says what can be explained
    for name in options.answers:
        if name not in can:
            predictor.check_task(name)
            raise UsageError(
                f"answers names task {name}, which isn't explained; explained are {', '.join(can)}"
            )
    left_out = [name for name in chosen if name not in can]
    kinds = ", ".join(f"{name} ({type(predictor.tasks[name]).__name__})" for name in left_out)
    return can, [f"answers of {kinds} can't be explained"] if left_out else []


def task_findings(explainer: Explainer, name: str) -> TaskFindings:
    explained = explainer.task(name)
    return TaskFindings(explained.task, explained.scores.meaning)


def checked_rows(count: int, options: ExplainOptions) -> set[int]:
    """Return which rows the checks are made on, drawn by the seed."""
    generator = torch.Generator().manual_seed(options.seed)
    return set(torch.randperm(count, generator=generator)[: options.checks].tolist())


def training_rows(
    model: ExplainedModel, options: ExplainOptions, found: Findings
) -> TrainingRows | None:
    """Return the training rows; where there are none any more, note it."""
    if not options.examples:
        return None
    try:
        return TrainingRows(
            model.checkpoint, model.predictor, model.allow_targets, options.batch_size
        )
    except PollinateError as error:
        found.notes.append(f"no training rows are shown: {error}")
        return None


class Work:
    """Gathers what is found of each batch."""

    def __init__(
        self, explainer: Explainer, options: ExplainOptions, found: Findings, checked: set[int]
    ) -> None:
        self.explainer = explainer
        self.options = options
        self.found = found
        self.checked = checked
        self.generator = torch.Generator().manual_seed(options.seed)
        self.seen: dict[str, list[tuple[str, Batch]]] = {}
        self._shuffled: TaskNetwork | None = None

    @property
    def shuffled(self) -> TaskNetwork:
        """The network with shuffled weights."""
        if self._shuffled is None:
            network = self.explainer.predictor.network
            self._shuffled = shuffled_network(network, self.generator)
        return self._shuffled

    def add(self, batch: ExplainedBatch, training: TrainingRows | None) -> None:
        """Add explanations, and what stands beside them."""
        task = batch.rows.explained.name
        own = self.found.tasks[task]
        answers = [ExplainedAnswer(one) for one in batch.explanations]
        own.answers += answers
        network = self.explainer.predictor.network
        features = row_features(network, task, batch.rows.dataset, batch.rows.batch)
        if training is not None and features is not None:
            near = training.nearest(task, features.cpu(), self.options.examples)
            for answer, place in zip(answers, batch.places, strict=True):
                answer.examples = near[place]
        chosen = [n for n, one in enumerate(batch.explanations) if one.row in self.checked]
        if chosen:
            part = ExplainedBatch(
                batch.rows,
                [batch.places[n] for n in chosen],
                [batch.explanations[n] for n in chosen],
            )
            shuffled = batch.rows.answered_by(self.shuffled)
            for check in check_explanations(part, shuffled, self.options.steps, self.generator):
                add_check(own.checks, check)
        self.seen.setdefault(task, []).append((batch.rows.dataset, batch.rows.batch))

    def add_sources(self) -> None:
        """Add what each task takes from where, on all rows."""
        for task, batches in self.seen.items():
            network = self.explainer.predictor.network
            self.found.tasks[task].sources = taken_from(network, task, batches)


def add_check(checks: list[Check], more: Check) -> None:
    """Put the rows of a check to those of the same modality."""
    for known in checks:
        if known.modality == more.modality:
            known.shuffled += more.shuffled
            known.deletion += more.deletion
            known.insertion += more.insertion
            return
    checks.append(more)


def add_other(
    found: Findings,
    other: ExplainedModel,
    values: Values,
    options: ExplainOptions,
    console: Console,
) -> None:
    """Explain the same answers by another model, and compare.

    Raises:
        UsageError: it has none of the tasks, or reads none of the inputs.
    """
    predictor = other.predictor
    known = {name: own for name, own in values.items() if name in predictor.modality_names}
    tasks = [
        name
        for name in found.tasks
        if name in predictor.tasks
        and predictor.tasks[name].answer_scores() is not None
        and name in predictor.predictable_tasks(list(known))
    ]
    if not tasks:
        raise UsageError(
            f"other must have a task that is explained ({', '.join(found.tasks)}) and its inputs, "
            f"{other.checkpoint} has {', '.join(predictor.tasks)}"
        )
    lacking = [name for name in found.tasks if name not in tasks]
    if lacking:
        found.notes.append(f"{other.checkpoint} has no {', '.join(lacking)}: nothing is compared")
    named: dict[tuple[str, int], list[str]] = {}
    for name in tasks:
        for one in found.tasks[name].answers:
            named.setdefault((name, one.explanation.row), []).append(one.explanation.name)
    explainer = Explainer(predictor, options.steps, named=named)
    places = {
        (name, one.explanation.row, one.explanation.name): one
        for name in tasks
        for one in found.tasks[name].answers
    }
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        doing = bar.add_task("comparing", total=found.rows * len(tasks))
        for batch in explainer.explain(known, tasks, options.batch_size, {}):
            for theirs in batch.explanations:
                own = places[theirs.task, theirs.row, theirs.name]
                own.other = OtherExplanation(theirs, dict(compared(own.explanation, theirs)))
            bar.advance(doing, len(batch.rows))


def compared(own: Explanation, theirs: Explanation) -> Iterator[tuple[str, float | None]]:
    """Yield (modality, rank correlation) of two explanations of one answer."""
    for modality, pieces in own.pieces.items():
        others = theirs.pieces.get(modality)
        same_text = pieces.dim() > 1 or (others is not None and others.shape == pieces.shape)
        if others is not None and same_text:
            yield modality, rank_correlation(pieces, others)
