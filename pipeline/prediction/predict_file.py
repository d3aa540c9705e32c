"""Predicts for a whole input, a chunk at a time, so that its size doesn't matter."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from datamodules.inputs import InputColumns
from datamodules.sources.row_files import FileRow, RowFile
from lightning_modules.predictor import Predictions, Predictor
from lightning_modules.tasks.base import Label
from lightning_modules.trust.doubts import DoubtOptions, Doubts
from pipeline.prediction.inputs import (
    COMMAND_LINE,
    InputWording,
    column_names,
    match_columns,
    raw_values,
)
from pipeline.prediction.output_files import output_columns, output_file, output_rows, picture_files
from pipeline.terminal import say
from pipeline.text_format import relpath
from pipeline.trainer import explain_out_of_memory
from pollinate.errors import PollinateError, UsageError

CHUNK = 4  # batches at a time: texts of like length come together, few images are in memory
SHOWN = 5  # bad rows that are listed


@dataclass
class PredictOptions:
    """tasks: None for all that can be answered; columns: {modality: column(s)}.

    overwrite: pictures of answers that are there already.
    doubt: what is wanted beside the answers.
    """

    tasks: Sequence[str] | None = None
    columns: Mapping[str, InputColumns] = field(default_factory=dict)
    batch_size: int = 256
    stop_at_bad_row: bool = False
    overwrite: bool = False
    doubt: DoubtOptions = field(default_factory=DoubtOptions)


@dataclass
class UnreadableRows:
    """count: of all; first: ``row 3: why`` of a few, rows counted from 1."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, start: int, errors: Mapping[int, str]) -> None:
        """Add the errors {place: why} of the rows from number ``start`` on, counted from 0."""
        room = max(SHOWN - len(self.first), 0)
        self.first += [
            f"row {start + place + 1}: {errors[place]}" for place in sorted(errors)[:room]
        ]
        self.count += len(errors)


def predict_file(
    predictor: Predictor, source: RowFile, output: Path, options: PredictOptions, console: Console
) -> None:
    """Write one output row for each input row, in order.

    Raises:
        UsageError: the input's columns don't fit the checkpoint, or a task can't be answered.
        PollinateError: a bad row, if it is to stop; or the output can't be written.
    """
    columns = match_columns(predictor.inputs, source, options.columns)
    if source.note is not None:
        say(console, f"note: {source.note}")
    tasks = choose_tasks(predictor, list(columns), options.tasks)
    chosen = {name: predictor.tasks[name] for name in tasks}
    doubts = predictor.doubts(options.doubt, tasks)
    for note in (note for own in doubts.values() for note in own.notes):
        say(console, f"note: {note}")
    input_names, schema = output_columns(source, chosen, doubts)
    bad = UnreadableRows()
    done, tokens, start = 0, 0, time.perf_counter()
    with (
        output_file(output, schema) as writer,
        picture_files(output, chosen, options.overwrite) as files,
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        bar = progress.add_task("predicting", total=source.count)
        for rows in source.chunks(CHUNK * options.batch_size):

            def watch(part: Predictions, before: int = done, so_far: int = tokens) -> None:
                speed = tokens_per_second(so_far + part.tokens, time.perf_counter() - start)
                rows_done = before + max(map(count_answers, part.answers.values()), default=0)
                progress.update(bar, completed=rows_done, description=f"predicting{speed}")

            size = options.batch_size
            found = predict_rows(predictor, rows, columns, tasks, source, size, doubts, watch)
            tokens += found.tokens
            bad.add(done, found.errors)
            if bad.count and options.stop_at_bad_row:
                raise PollinateError(stopped_message(source, bad))
            writer.write(list(output_rows(rows, input_names, found, chosen, files, done, doubts)))
            done += len(rows)
            progress.update(bar, completed=done)
    speed = tokens_per_second(tokens, time.perf_counter() - start)
    say(console, prediction_report(source, output, tasks, done, bad, speed))
    for drift in filter(None, (own.drift() for own in doubts.values())):
        say(console, f"warning: {drift}")
    for task, folder in files.folders.items():
        say(console, f"pictures of {task} -> {relpath(folder)}")


def choose_tasks(
    predictor: Predictor,
    modalities: Sequence[str],
    wanted: Sequence[str] | None,
    wording: InputWording = COMMAND_LINE,
) -> list[str]:
    """Return the tasks to answer."""
    possible = predictor.predictable_tasks(modalities)
    for task in wanted or ():
        predictor.check_task(task)
        if task not in possible:
            needs = " or ".join("+".join(names) for names in predictor.modalities_of(task))
            raise UsageError(
                f"task {task} reads {needs}, the input has {', '.join(modalities)}; leave it out, "
                f"or name the column: {wording.choose('text', 'NAME')}"
            )
    if not possible:
        raise UsageError(f"no task of the checkpoint reads only {', '.join(modalities)}")
    return list(wanted) if wanted else possible


def predict_rows(
    predictor: Predictor,
    rows: Sequence[FileRow],
    columns: Mapping[str, InputColumns],
    tasks: Sequence[str],
    source: RowFile,
    batch_size: int,
    doubts: Mapping[str, Doubts],
    watch: Callable[[Predictions], None] | None = None,
) -> Predictions:
    """Answer a chunk of rows; every row without any answer has an error."""
    values, errors = raw_values(rows, columns, source.folder, source.empty)
    with explain_out_of_memory("batch_size", batch_size):
        found = predictor.predict(values, tasks, batch_size, doubts, watch)
    read = [column_names(given) for given in columns.values()]
    for place in range(len(rows)):
        if all(answers[place] is None for answers in found.answers.values()):
            why = f"{', '.join(dict.fromkeys(read))} empty"
            errors.setdefault(place, found.errors.get(place) or why)
    return Predictions(found.answers, found.errors | errors, found.tokens)


def count_answers(answers: Sequence[Label | None]) -> int:
    return sum(answer is not None for answer in answers)


def tokens_per_second(tokens: int, seconds: float) -> str:
    """Say how fast answers in words are written; nothing where none is."""
    return f", {tokens / max(seconds, 1e-9):,.0f} tokens per second" if tokens else ""


def stopped_message(source: RowFile, bad: UnreadableRows) -> str:
    return (
        f"{source.path}, {bad.first[0]}. Nothing was written; correct the row, or leave out "
        "such rows: on_bad_row=skip"
    )


def prediction_report(
    source: RowFile,
    output: Path,
    tasks: Sequence[str],
    count: int,
    bad: UnreadableRows,
    speed: str = "",
) -> str:
    lines = [f"{count:,} rows, {', '.join(tasks)}{speed} -> {output}"]
    if bad.count:
        rows = "row" if bad.count == 1 else "rows"
        lines.append(f"{bad.count:,} bad {rows} in {source.path}, named in the column error:")
        lines += [f"  {error}" for error in bad.first]
    if bad.count > len(bad.first):
        lines.append(f"  and {bad.count - len(bad.first):,} more")
    return "\n".join(lines)
