"""What may be wrong with data: one function a check, each yields what it finds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from datamodules.columns import Column, take
from datamodules.duplicates import conflicts, leaks
from datamodules.loading import Loaded, TaskSpec
from datamodules.modalities.base import Store
from datamodules.modalities.text import TextModality, TextStore
from datamodules.repeated import shared_rows
from datamodules.table import SPLIT
from lightning_modules.tasks.tagging import Tagging
from pipeline.inspection.facts import DatasetFacts, sample
from pipeline.inspection.problems import ERROR, NOTE, WARNING, Problem, places

RARE = 5  # training rows of a class below which little can be learnt
LOPSIDED = 20  # times more rows of the largest class than of the smallest
SHIFTED = 0.2  # total variation between the labels of two splits
CUT = 0.2  # share of texts that lose their end
STRANGE = re.compile(r"\ufffd|Ã[\x80-\xbf]|â€|<\w+[^<>]*>|&(amp|lt|gt|quot|#\d+);")


@dataclass
class Subject:
    """One data set, with all that is known of it; tasks: those that have labels in it."""

    name: str
    loaded: Loaded
    stores: Mapping[str, Store]
    tasks: Mapping[str, TaskSpec]
    facts: DatasetFacts
    text: TextModality | None


def bad_rows(subject: Subject) -> Iterator[Problem]:
    """Rows that can't be read or have impossible labels."""
    bad = subject.loaded.bad
    if bad.found:
        rows = sorted(bad.found)[:8]
        where = [f"{bad.table.place(row)}, {bad.found[row]}" for row in rows]
        advice = "mend them, or leave them out: data.on_bad_row=skip"
        yield Problem(ERROR, subject.name, "rows can't be used", advice, len(bad.found), where)


def leaking_rows(subject: Subject) -> Iterator[Problem]:
    """Rows of valid and test that stand in an earlier split, too."""
    hashes = subject.loaded.hashes
    leaked = leaks(hashes, subject.loaded.rows) if hashes is not None else []
    for split in ("valid", "test"):
        found = [leak for leak in leaked if leak.split == split]
        if found:
            place = subject.loaded.table.place
            where = [
                f"{place(leak.row)} = {place(leak.twin)} ({leak.twin_split})" for leak in found
            ]
            what = f"rows of {split} are exact copies of rows in an earlier split"
            advice = (
                "remove them, or its scores flatter; group rows that belong together: split.group"
            )
            yield Problem(WARNING, subject.name, what, advice, len(found), where[:8])


def repeated_rows(subject: Subject) -> Iterator[Problem]:
    """Training rows with the same inputs."""
    if subject.loaded.hashes is None:
        return
    rows = subject.loaded.rows["train"]
    _, first = np.unique(subject.loaded.hashes[rows], return_index=True)
    again = np.delete(rows, first)
    if len(again):
        where = places(subject.loaded.table, again)
        advice = "they count several times; remove them if that isn't meant"
        yield Problem(NOTE, subject.name, "training rows are copies", advice, len(again), where)


def conflicting_labels(subject: Subject) -> Iterator[Problem]:
    """Rows with the same inputs and different labels."""
    hashes = subject.loaded.hashes
    for task in subject.tasks if hashes is not None else ():
        assert hashes is not None
        groups = conflicts(hashes, subject.loaded.targets[task])
        if groups:
            place, cells = subject.loaded.table.place, subject.loaded.targets[task]
            where = [
                "; ".join(f"{place(r)}: {str(cells[r])[:40]}" for r in g[:3]) for g in groups[:8]
            ]
            what = f"inputs have several labels of {task}"
            yield Problem(WARNING, task, what, "decide for one label each", len(groups), where)


def rare_classes(subject: Subject) -> Iterator[Problem]:
    """Classes with few training rows."""
    for task, facts in subject.facts.tasks.items():
        rare = [f"{name}: {n}" for name, n in facts.labels["train"].items() if n < RARE]
        if rare:
            advice = (
                "join them with others, or get more rows; class_weights: balanced helps a little"
            )
            what = f"classes have fewer than {RARE} training {facts.unit}"
            yield Problem(WARNING, task, what, advice, len(rare), sorted(rare)[:20])


def unseen_labels(subject: Subject) -> Iterator[Problem]:
    """Labels that valid or test have and training lacks."""
    for task, facts in subject.facts.tasks.items():
        for split in ("valid", "test"):
            strange = sorted(set(facts.labels[split]) - set(facts.labels["train"]))
            if strange and facts.labels["train"]:
                what = f"labels are in {split} and not in train"
                advice = f"add training rows, or don't count them: data.tasks.{task}.unseen=drop"
                yield Problem(ERROR, task, what, advice, len(strange), strange[:20])


def untested_classes(subject: Subject) -> Iterator[Problem]:
    """Classes that valid or test lack."""
    for task, facts in subject.facts.tasks.items():
        for split in ("valid", "test"):
            absent = sorted(set(facts.labels["train"]) - set(facts.labels[split]))
            if absent and facts.labels[split]:
                what = f"classes have no row in {split}"
                advice = "nothing is measured of them there; draw the split anew, stratified"
                yield Problem(NOTE, task, what, advice, len(absent), absent[:20])


def too_few_classes(subject: Subject) -> Iterator[Problem]:
    """Tasks that nothing can be learnt of."""
    for task, facts in subject.facts.tasks.items():
        if not facts.labelled["train"]:
            what, advice = "no training row has a label", "check target and split"
            yield Problem(ERROR, task, what, advice)
        elif len(facts.classes) == 1:
            what = f"all training rows have the label {facts.classes[0]}"
            yield Problem(ERROR, task, what, "check target and split, or leave the task out")
        elif facts.numbers and min(facts.numbers) == max(facts.numbers):
            what = f"all training rows have the number {facts.numbers[0]:g}"
            yield Problem(ERROR, task, what, "check target, or leave the task out")


def lopsided_classes(subject: Subject) -> Iterator[Problem]:
    """Classes of very different sizes."""
    for task, spec in subject.tasks.items():
        imbalance = subject.facts.tasks[task].imbalance
        if imbalance and imbalance > LOPSIDED and not isinstance(spec.task, Tagging):
            unit = subject.facts.tasks[task].unit
            what = f"the largest class has {imbalance:.0f} times the {unit} of the smallest"
            advice = "look at f1, not accuracy; class_weights: balanced or focal: 2 may help"
            yield Problem(NOTE, task, what, advice)


def shifted_labels(subject: Subject) -> Iterator[Problem]:
    """Splits whose labels are shared out differently."""
    for task, facts in subject.facts.tasks.items():
        for split in ("valid", "test"):
            apart = variation(facts.labels["train"], facts.labels[split])
            noise = 0.5 * (len(facts.classes) / max(1, facts.labelled[split])) ** 0.5
            if facts.labels[split] and apart > SHIFTED + noise:
                what = f"labels of {split} are shared out otherwise than those of train"
                advice = (
                    f"total variation {apart:.2f}; draw the split stratified if that isn't meant"
                )
                yield Problem(WARNING, task, what, advice)


def empty_splits(subject: Subject) -> Iterator[Problem]:
    """Splits without rows or labels."""
    for split, rows in subject.facts.rows.items():
        # rows that no task has labels of are there to train on
        if not rows and (subject.tasks or split == "train"):
            advice = f"draw it from the training rows: split: {{..., {split}: 0.1}}"
            yield Problem(ERROR, subject.name, f"{split} has no rows", advice)
    for task, facts in subject.facts.tasks.items():
        for split in ("valid", "test"):
            if subject.facts.rows[split] and not facts.labelled[split]:
                advice = "label some, or it has no score there"
                yield Problem(WARNING, task, f"no row of {split} has a label", advice)


def constant_columns(subject: Subject) -> Iterator[Problem]:
    """Columns with one value."""
    for name, column in subject.loaded.table.columns.items():
        if name != SPLIT and len(column) > 1 and is_constant(column):
            what = f"column {name} always holds the same"
            yield Problem(NOTE, subject.name, what, "it says nothing; leave it out")


def lacking_inputs(subject: Subject) -> Iterator[Problem]:
    """Modalities that rows lack."""
    total = len(subject.loaded.table)
    for modality, facts in subject.facts.inputs.items():
        lacking = total - facts.has - len(subject.loaded.bad.found)
        if lacking > 0 and len(subject.facts.inputs) > 1:
            rows = np.flatnonzero(~subject.stores[modality].has)
            what = f"rows have no {modality}"
            advice = "a learnt vector stands for it"
            where = places(subject.loaded.table, rows)
            yield Problem(NOTE, subject.name, what, advice, lacking, where)


def cut_texts(subject: Subject) -> Iterator[Problem]:
    """Texts that lose their end."""
    store = subject.stores.get("text")
    if subject.text is None or not isinstance(store, TextStore) or not len(store):
        return
    cut = store.cut
    if cut.mean() > CUT:
        what = f"texts are cut at {subject.text.max_length} tokens ({cut.mean():.0%})"
        advice = "raise data.text.max_length, if their ends matter"
        yield Problem(NOTE, subject.name, what, advice, int(cut.sum()))


def strange_texts(subject: Subject) -> Iterator[Problem]:
    """Texts with traces of another encoding, or of HTML."""
    column = subject.loaded.inputs.get("text")
    if column is None:
        return
    rows = sample(np.arange(len(column)))
    strange = [r for r, c in zip(rows, take(column, rows), strict=True) if STRANGE.search(str(c))]
    if strange:
        share = len(strange) / len(rows)
        what = f"texts have traces of HTML or of a wrong encoding ({share:.1%} of a sample)"
        advice = "tags are dropped when tokenising; for Ã¤ or similar check the source's encoding"
        where = places(subject.loaded.table, strange)
        yield Problem(NOTE, subject.name, what, advice, len(strange), where)


CHECKS: tuple[Callable[[Subject], Iterator[Problem]], ...] = (
    bad_rows,
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
    strange_texts,
)


def shared_problems(loaded: Mapping[str, Loaded]) -> Iterator[Problem]:
    """Rows of valid and test that another data set trains on."""
    for one in shared_rows(loaded):
        what = f"rows of {one.split} are training rows of {one.other}"
        advice = f"remove them from {one.other}, or the scores of {one.name} flatter"
        yield Problem(WARNING, one.name, what, advice, one.count, list(one.places))


def is_constant(column: Column) -> bool:
    """Return whether all cells are the same; a sample tells of most columns that they are not."""
    some = {as_key(cell) for cell in take(column, sample(np.arange(len(column))))}
    return len(some) == 1 and all(as_key(cell) in some for cell in column)


def as_key(cell: Any) -> bytes | str:
    """Return what differs if cells do."""
    if isinstance(cell, np.ndarray):
        return cell.tobytes()
    return cell if isinstance(cell, bytes) else str(cell)


def variation(one: Counter[str], other: Counter[str]) -> float:
    """Return the total variation of two distributions: sum |p - q| / 2, 0 to 1."""
    total, others = max(1, one.total()), max(1, other.total())
    return sum(abs(one[n] / total - other[n] / others) for n in one.keys() | other.keys()) / 2
