"""What may be wrong with data: one function per check; each yields the problems that it finds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from datamodules.duplicates import cross_dataset_leaks, find_leaks, label_conflicts
from datamodules.labelled_task import LabelledTask
from datamodules.loading import LoadedDataset
from datamodules.lookalikes import lookalikes, shown_group
from datamodules.modalities.base import InputStore
from datamodules.modalities.text import TextModality, TextStore
from datamodules.table import SPLIT_COLUMN, Column, SourceTable, take
from lightning_modules.tasks.base import as_task
from lightning_modules.tasks.generation import Generation
from lightning_modules.tasks.tagging import Tagging
from pipeline.inspection.data_statistics import DatasetStatistics, sample

SHOWN = 8  # places that are kept of a problem
ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)


@dataclass
class DataProblem:
    """severity: one of ``SEVERITIES``; where: data set or task; advice: what to do.

    count: rows or things concerned; places: the first of them, with file and line.
    """

    severity: str
    where: str
    what: str
    advice: str
    count: int = 0
    places: list[str] = field(default_factory=list)


def places(table: SourceTable, rows: Iterable[int]) -> list[str]:
    return [table.place(int(row)) for row in list(rows)[:SHOWN]]


def data_verdict(problems: Sequence[DataProblem]) -> str:
    counts = {name: sum(p.severity == name for p in problems) for name in SEVERITIES}
    found = [f"{n} {name}{'s' if n != 1 else ''}" for name, n in counts.items() if n]
    return f"{', '.join(found)} found" if found else "nothing wrong was found"


RARE = 5  # training rows of a class below which little can be learnt
LOPSIDED = 20  # times more rows of the largest class than of the smallest
SHIFTED = 0.2  # total variation between the labels of two splits
CUT = 0.2  # share of texts that lose their end
STRANGE = re.compile(r"\ufffd|Ã[\x80-\xbf]|â€|<\w+[^<>]*>|&(amp|lt|gt|quot|#\d+);")


@dataclass
class InspectedDataset:
    """One data set, with all that is known of it.

    tasks: those that have labels in it; prompts: {task that answers in words: its prompts}.
    """

    name: str
    loaded: LoadedDataset
    stores: Mapping[str, InputStore]
    tasks: Mapping[str, LabelledTask]
    facts: DatasetStatistics
    text: TextModality | None
    prompts: Mapping[str, InputStore] = field(default_factory=dict)


def bad_rows(inspected: InspectedDataset) -> Iterator[DataProblem]:
    bad = inspected.loaded.bad
    if bad.found:
        rows = sorted(bad.found)[:8]
        where = [f"{bad.table.place(row)}, {bad.found[row]}" for row in rows]
        advice = "mend them, or leave them out: data.on_bad_row=skip"
        yield DataProblem(
            ERROR, inspected.name, "rows can't be used", advice, len(bad.found), where
        )


def notes_of_the_source(inspected: InspectedDataset) -> Iterator[DataProblem]:
    for note in inspected.loaded.table.notes:
        yield DataProblem(NOTE, inspected.name, note, "nothing reads them")


def leaking_rows(inspected: InspectedDataset) -> Iterator[DataProblem]:
    hashes = inspected.loaded.hashes
    leaked = find_leaks(hashes, inspected.loaded.rows) if hashes is not None else []
    for split in ("valid", "test"):
        found = [leak for leak in leaked if leak.split == split]
        if found:
            place = inspected.loaded.table.place
            where = [
                f"{place(leak.row)} = {place(leak.twin)} ({leak.twin_split})" for leak in found
            ]
            what = f"rows of {split} are exact copies of rows in an earlier split"
            advice = (
                "remove them, or its scores flatter; group rows that belong together: split.group"
            )
            yield DataProblem(WARNING, inspected.name, what, advice, len(found), where[:8])


def repeated_rows(inspected: InspectedDataset) -> Iterator[DataProblem]:
    if inspected.loaded.hashes is None:
        return
    rows = inspected.loaded.rows["train"]
    _, first = np.unique(inspected.loaded.hashes[rows], return_index=True)
    again = np.delete(rows, first)
    if len(again):
        where = places(inspected.loaded.table, again)
        advice = "they count several times; remove them if that isn't meant"
        yield DataProblem(
            NOTE, inspected.name, "training rows are copies", advice, len(again), where
        )


def conflicting_labels(inspected: InspectedDataset) -> Iterator[DataProblem]:
    hashes = inspected.loaded.hashes
    for task in inspected.tasks if hashes is not None else ():
        assert hashes is not None
        groups = label_conflicts(hashes, inspected.loaded.targets[task])
        if groups:
            place, cells = inspected.loaded.table.place, inspected.loaded.targets[task]
            where = [
                "; ".join(f"{place(r)}: {str(cells[r])[:40]}" for r in g[:3]) for g in groups[:8]
            ]
            what = f"inputs have several labels of {task}"
            yield DataProblem(WARNING, task, what, "decide for one label each", len(groups), where)


def rare_classes(inspected: InspectedDataset) -> Iterator[DataProblem]:
    for task, facts in inspected.facts.tasks.items():
        rare = [f"{name}: {n}" for name, n in facts.labels["train"].items() if n < RARE]
        if rare:
            advice = (
                "join them with others, or get more rows; class_weights: balanced helps a little"
            )
            what = f"classes have fewer than {RARE} training {facts.unit}"
            yield DataProblem(WARNING, task, what, advice, len(rare), sorted(rare)[:20])


def unseen_labels(inspected: InspectedDataset) -> Iterator[DataProblem]:
    for task, facts in inspected.facts.tasks.items():
        for split in ("valid", "test"):
            strange = sorted(set(facts.labels[split]) - set(facts.labels["train"]))
            if strange and facts.labels["train"]:
                what = f"labels are in {split} and not in train"
                advice = f"add training rows, or don't count them: data.tasks.{task}.unseen=drop"
                yield DataProblem(ERROR, task, what, advice, len(strange), strange[:20])


def untested_classes(inspected: InspectedDataset) -> Iterator[DataProblem]:
    for task, facts in inspected.facts.tasks.items():
        for split in ("valid", "test"):
            absent = sorted(set(facts.labels["train"]) - set(facts.labels[split]))
            if absent and facts.labels[split]:
                what = f"classes have no row in {split}"
                advice = "nothing is measured of them there; draw the split anew, stratified"
                yield DataProblem(NOTE, task, what, advice, len(absent), absent[:20])


def too_few_classes(inspected: InspectedDataset) -> Iterator[DataProblem]:
    for task, facts in inspected.facts.tasks.items():
        if not facts.labelled["train"]:
            what, advice = "no training row has a label", "check target and split"
            yield DataProblem(ERROR, task, what, advice)
        elif len(facts.classes) == 1:
            what = f"all training rows have the label {facts.classes[0]}"
            yield DataProblem(ERROR, task, what, "check target and split, or leave the task out")
        elif facts.numbers and min(facts.numbers) == max(facts.numbers):
            what = f"all training rows have the number {facts.numbers[0]:g}"
            yield DataProblem(ERROR, task, what, "check target, or leave the task out")


def lopsided_classes(inspected: InspectedDataset) -> Iterator[DataProblem]:
    for task, spec in inspected.tasks.items():
        imbalance = inspected.facts.tasks[task].imbalance
        if imbalance and imbalance > LOPSIDED and not isinstance(spec, Tagging):
            unit = inspected.facts.tasks[task].unit
            what = f"the largest class has {imbalance:.0f} times the {unit} of the smallest"
            advice = "look at f1, not accuracy; class_weights: balanced or focal: 2 may help"
            yield DataProblem(NOTE, task, what, advice)


def shifted_labels(inspected: InspectedDataset) -> Iterator[DataProblem]:
    for task, facts in inspected.facts.tasks.items():
        for split in ("valid", "test"):
            apart = variation(facts.labels["train"], facts.labels[split])
            noise = 0.5 * (len(facts.classes) / max(1, facts.labelled[split])) ** 0.5
            if facts.labels[split] and apart > SHIFTED + noise:
                what = f"labels of {split} are shared out otherwise than those of train"
                advice = (
                    f"total variation {apart:.2f}; draw the split stratified if that isn't meant"
                )
                yield DataProblem(WARNING, task, what, advice)


def empty_splits(inspected: InspectedDataset) -> Iterator[DataProblem]:
    for split, rows in inspected.facts.rows.items():
        # rows that no task has labels of are there to train on
        if not rows and (inspected.tasks or split == "train"):
            advice = f"draw it from the training rows: split: {{..., {split}: 0.1}}"
            yield DataProblem(ERROR, inspected.name, f"{split} has no rows", advice)
    for task, facts in inspected.facts.tasks.items():
        for split in ("valid", "test"):
            if inspected.facts.rows[split] and not facts.labelled[split]:
                advice = "label some, or it has no score there"
                yield DataProblem(WARNING, task, f"no row of {split} has a label", advice)


def constant_columns(inspected: InspectedDataset) -> Iterator[DataProblem]:
    for name, column in inspected.loaded.table.columns.items():
        if name != SPLIT_COLUMN and len(column) > 1 and is_constant(column):
            what = f"column {name} always holds the same"
            yield DataProblem(NOTE, inspected.name, what, "it says nothing; leave it out")


def lacking_inputs(inspected: InspectedDataset) -> Iterator[DataProblem]:
    total = len(inspected.loaded.table)
    for modality, facts in inspected.facts.inputs.items():
        lacking = total - facts.has - len(inspected.loaded.bad.found)
        if lacking > 0 and len(inspected.facts.inputs) > 1:
            rows = np.flatnonzero(~inspected.stores[modality].has)
            what = f"rows have no {modality}"
            advice = "a learnt vector replaces it"
            where = places(inspected.loaded.table, rows)
            yield DataProblem(NOTE, inspected.name, what, advice, lacking, where)


def cut_texts(inspected: InspectedDataset) -> Iterator[DataProblem]:
    store = inspected.stores.get("text")
    if inspected.text is None or not isinstance(store, TextStore) or not len(store):
        return
    cut = store.cut > 0
    if cut.mean() > CUT:
        what = f"texts are cut at {inspected.text.max_length} tokens ({cut.mean():.0%})"
        advice = "raise data.text.max_length, if their ends matter"
        yield DataProblem(NOTE, inspected.name, what, advice, int(cut.sum()))


def given_away_answers(inspected: InspectedDataset) -> Iterator[DataProblem]:
    for name, spec in inspected.tasks.items():
        task = as_task(spec)
        given = task.given_away() if isinstance(task, Generation) else []
        if given:
            what = f"the prompt names {' and '.join(given)}, which is the answer itself"
            yield DataProblem(WARNING, name, what, "leave it out of the prompt")


def cut_prompts(inspected: InspectedDataset) -> Iterator[DataProblem]:
    for name, store in inspected.prompts.items():
        if not isinstance(store, TextStore):
            continue  # they are streamed
        cut = (store.cut > 0) & store.has
        if name in inspected.tasks and cut.sum() > CUT * max(1, store.has.sum()):
            advice = f"raise data.tasks.{name}.max_prompt, up to what the model reads"
            yield DataProblem(NOTE, name, "prompts are cut", advice, int(cut.sum()))


def strange_texts(inspected: InspectedDataset) -> Iterator[DataProblem]:
    column = inspected.loaded.inputs.get("text")
    if column is None:
        return
    rows = sample(np.arange(len(column)))
    strange = [r for r, c in zip(rows, take(column, rows), strict=True) if STRANGE.search(str(c))]
    if strange:
        share = len(strange) / len(rows)
        what = f"texts have traces of HTML or of a wrong encoding ({share:.1%} of a sample)"
        advice = "tags are dropped when tokenising; for Ã¤ or similar check the source's encoding"
        where = places(inspected.loaded.table, strange)
        yield DataProblem(NOTE, inspected.name, what, advice, len(strange), where)


def doubtful_rows(inspected: InspectedDataset) -> Iterator[DataProblem]:
    table = inspected.loaded.table
    if table.doubtful:
        where = [f"{table.place(row)}: {why}" for row, why in table.doubts.items()]
        what = "rows may not be what they seem to be"
        advice = "look at them"
        yield DataProblem(WARNING, inspected.name, what, advice, table.doubtful, where)


CHECKS: tuple[Callable[[InspectedDataset], Iterator[DataProblem]], ...] = (
    bad_rows,
    doubtful_rows,
    notes_of_the_source,
    empty_splits,
    too_few_classes,
    unseen_labels,
    leaking_rows,
    conflicting_labels,
    rare_classes,
    shifted_labels,
    lopsided_classes,
    untested_classes,
    repeated_rows,
    lacking_inputs,
    constant_columns,
    cut_texts,
    given_away_answers,
    cut_prompts,
    strange_texts,
)


def lookalike_labels(facts: Mapping[str, DatasetStatistics]) -> Iterator[DataProblem]:
    """Yield labels of a task, in all its data sets together, that look alike."""
    labels: dict[str, Counter[str]] = {}
    for one in facts.values():
        for task, own in one.tasks.items():
            labels.setdefault(task, Counter()).update(sum(own.labels.values(), Counter()))
    for task, counts in labels.items():
        if groups := lookalikes(counts):
            where = [
                " and ".join(f"{label!a} ({counts[label]:,})" for label in group)
                for group in groups[:SHOWN]
            ]
            first = shown_group(groups[0])
            what = f"groups of labels look alike and are different classes, such as {first}"
            advice = "write them one way if they mean the same"
            yield DataProblem(WARNING, task, what, advice, len(groups), where)


def shared_problems(loaded: Mapping[str, LoadedDataset]) -> Iterator[DataProblem]:
    for one in cross_dataset_leaks(loaded):
        what = f"rows of {one.split} are training rows of {one.other}"
        advice = f"remove them from {one.other}, or the scores of {one.name} flatter"
        yield DataProblem(WARNING, one.name, what, advice, one.count, list(one.places))


def is_constant(column: Column) -> bool:
    """Return whether all cells are the same; a sample tells of most columns that they are not."""
    some = {as_key(cell) for cell in take(column, sample(np.arange(len(column))))}
    return len(some) == 1 and all(as_key(cell) in some for cell in column)


def as_key(cell: Any) -> bytes | str:
    if isinstance(cell, np.ndarray):
        return cell.tobytes()
    return cell if isinstance(cell, bytes) else str(cell)


def variation(one: Counter[str], other: Counter[str]) -> float:
    """Return the total variation of two distributions: sum |p - q| / 2, 0 to 1."""
    total, others = max(1, one.total()), max(1, other.total())
    return sum(abs(one[n] / total - other[n] / others) for n in one.keys() | other.keys()) / 2
