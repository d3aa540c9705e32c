"""Fits a linear model for each task, and scores it as the network is scored."""

from __future__ import annotations

import hashlib
import json
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse

from datamodules.cache import Cache
from datamodules.labelled_task import LabelledTask
from datamodules.mixed_datamodule import MixedDataModule
from datamodules.modalities.text import first_text, words_of
from datamodules.table import Column
from datamodules.terms import TermWeights
from lightning_modules.descriptors import DESCRIPTORS
from lightning_modules.tasks.base import Task, as_task
from lightning_modules.views import TEXT, RowView, WordView
from pipeline.linear.descriptors import Matrix, Standardised, count_cells
from pollinate.files import write_json
from pollinate.foreign import read_json

Scores = dict[str, dict[str, dict[str, float]]]  # {split: {task: {metric: value}}}

EVALUATED = ("valid", "test")
MOST_ROWS = 20_000  # training rows that are learnt from
MOST_LABELS = 10_000_000  # rows, or words, of a split times columns that are predicted
MOST_WORK = 2_000_000_000  # numbers of the rows times columns that are predicted
CHEAP_WORK = 20_000_000  # up to which the strength of the penalty is chosen, too
FEWEST = 20  # validation rows by which it is chosen
SLACKS = (1.0, 0.1, 10.0)  # C of the support vector machine; the first one where nothing is chosen
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of ridge regression
CHUNK = 512  # pictures or recordings at a time
WORD_BITS = 18  # of the hash of a word's features


class NoLinearModelError(Exception):
    """Why a task has none."""


@dataclass
class Linear:
    """Predicts columns: X W + b.

    table: W, (D, K); bias: b, (K,).
    """

    table: np.ndarray
    bias: np.ndarray

    def __call__(self, rows: Matrix) -> np.ndarray:
        """Return the columns of rows (N, D): (N, K)."""
        found: np.ndarray = rows @ self.table + self.bias
        return found


@dataclass
class LinearScores:
    """What linear models reach.

    scores: on validation and test rows.
    reasons: {task: why it has no linear model}.
    """

    scores: Scores = field(default_factory=lambda: {split: {} for split in EVALUATED})
    reasons: dict[str, str] = field(default_factory=dict)


FORMAT = 3  # of what the cache holds; raised when scores change
FILE = "scores.json"


def linear_scores(datamodule: MixedDataModule, cache: Cache) -> LinearScores:
    """Return the scores of a linear model for each task, of all modalities of its rows.

    They are kept: a task is not fitted again to the same rows and labels, in whatever run.
    """
    found, rows = LinearScores(), RowMatrices(datamodule)
    for name in datamodule.tasks:

        def make(folder: Path, task: str = name) -> None:
            write_json(folder / FILE, fit_task(task, datamodule, rows))

        kept = read_json(cache.get("linear", cache_key(name, datamodule), make) / FILE)
        for split, own in kept["scores"].items():
            scores = {m: math.nan if value is None else value for m, value in own.items()}
            found.scores[split][name] = scores
        if kept["reason"]:
            found.reasons[name] = kept["reason"]
    return found


def cache_key(name: str, datamodule: MixedDataModule) -> list[Any]:
    """Return what a task's scores depend on."""
    task, parts = datamodule.tasks[name], []
    for dataset in task.datasets:
        rows = hashlib.sha256()
        for own in (part[dataset] for part in datamodule.parts.values()):
            rows.update(own.rows.tobytes())
            rows.update(own.present[name].numpy().tobytes() if name in own.present else b"")
        inputs = datamodule.datasets[dataset].inputs
        kinds = {modality: datamodule.modalities[modality].options() for modality in inputs}
        digest = datamodule.loaded[dataset].digest
        parts.append([digest, dict(inputs), kinds, task.target_in(dataset), rows.hexdigest()])
    known = [type(task).__name__, task.state_dict(), parts]
    return [FORMAT, version("scikit-learn"), json.loads(json.dumps(known, default=str))]


def fit_task(name: str, datamodule: MixedDataModule, rows: RowMatrices) -> dict[str, Any]:
    """Return {"scores": {split: {metric: value}}, "reason": why there are none}."""
    try:
        return {"scores": dict(task_scores(name, datamodule, rows)), "reason": ""}
    except NoLinearModelError as reason:
        return {"scores": {}, "reason": str(reason)}


def task_scores(
    name: str, datamodule: MixedDataModule, rows: RowMatrices
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield (split, {metric: value}) of one task."""
    task = as_task(datamodule.tasks[name])
    examples = examples_of(name, datamodule, rows)
    linear = best_linear(task, examples["train"], examples["valid"])
    for split in EVALUATED:
        if len(examples[split].targets):
            yield split, examples[split].scores(task, linear)


def labelled_datasets(task: LabelledTask) -> tuple[str, ...]:
    """Return the names of a task's data sets that have labels of it."""
    return tuple(name for name in task.datasets if name not in task.unlabelled)


def examples_of(name: str, datamodule: MixedDataModule, rows: RowMatrices) -> dict[str, Examples]:
    """Return {split: the labelled rows of a task, or their words}.

    Raises:
        NoLinearModelError: they can't be had, or aren't what a linear model predicts.
    """
    task = as_task(datamodule.tasks[name])
    labelled = labelled_datasets(task)
    if not labelled:
        raise NoLinearModelError("no data set has labels of it")
    if any(datamodule.loaded[d].table.streamed for d in labelled):
        raise NoLinearModelError("its rows are streamed, and a linear model needs them at once")
    make = word_examples if isinstance(task.view, WordView) else row_examples
    return {
        split: make(name, task, datamodule, labelled, split, rows)
        for split in ("train", *EVALUATED)
    }


@dataclass
class Examples:
    """Labelled rows of a split, or their words.

    values: (N, D), of each row or word.
    columns: (N, K), what is predicted; targets: (M, ...), as metrics take them.
    place: (M, W) numbers of a row's words in ``values``, -1 beyond its last; None: a row is a row.
    """

    values: Matrix
    columns: np.ndarray
    targets: torch.Tensor
    place: np.ndarray | None = None

    def scores(self, task: Task, linear: Linear) -> dict[str, float]:
        """Score predictions as the network's outputs are scored."""
        columns = torch.from_numpy(linear(self.values)).double()
        if self.place is not None:
            columns = columns[torch.from_numpy(self.place)]  # beyond the last word: anything
        output = task.linear_output(columns)
        metrics = task.metrics()
        metrics.update(task.metric_input(output), self.targets)
        found = {name: metric.compute() for name, metric in metrics.items()}
        single = {n: v for n, v in found.items() if isinstance(v, torch.Tensor) and not v.dim()}
        return {name: value.item() for name, value in single.items()}


class RowMatrices:
    """All rows of data sets as matrices; tasks of the same data sets share them.

    Attributes:
        learnt: {data sets: {modality: what its columns were made with}}, in the columns' order:
            (numbers, idf) of the terms of texts, (mean, rate, low, high) of descriptors.
    """

    def __init__(self, datamodule: MixedDataModule) -> None:
        self.datamodule = datamodule
        self.learnt: dict[tuple[str, ...], dict[str, tuple[np.ndarray, ...]]] = {}
        self._known: dict[tuple[str, ...], dict[str, Matrix]] = {}

    def of(self, datasets: tuple[str, ...]) -> dict[str, Matrix]:
        """Return {split: (N, D)} of all rows of the data sets, one after another."""
        if datasets not in self._known:
            self._known[datasets] = self._made(datasets)
        return self._known[datasets]

    def _made(self, datasets: tuple[str, ...]) -> dict[str, Matrix]:
        data = self.datamodule
        modalities = sorted({m for d in datasets for m in data.datasets[d].inputs})
        blocks: dict[str, list[Matrix]] = {split: [] for split in ("train", *EVALUATED)}
        learnt = self.learnt[datasets] = {}
        for modality in modalities:
            if modality == TEXT:
                cells = {
                    split: [cell for d in datasets for cell in self._texts(d, split)]
                    for split in blocks
                }
                terms = TermWeights(count_cells(cells["train"]))
                learnt[modality] = terms.numbers, terms.idf
                for split, own in blocks.items():
                    own.append(terms.of(count_cells(cells[split])))
            elif modality in DESCRIPTORS:
                own_rows = {split: self._described(datasets, split, modality) for split in blocks}
                values, has = own_rows["train"]
                even = Standardised().fit(values[has])
                learnt[modality] = even.mean, 1 / even.scale, even.low, even.high
                for split, own in blocks.items():
                    own.append(even(*own_rows[split]))
            else:
                raise NoLinearModelError(f"there are no simple descriptors of {modality}")
        if TEXT in modalities:
            return {split: sparse.hstack(own, "csr") for split, own in blocks.items()}
        return {split: np.hstack(own) for split, own in blocks.items()}

    def _texts(self, dataset: str, split: str) -> Column:
        loaded = self.datamodule.loaded[dataset]
        if TEXT not in loaded.inputs:
            return [None] * len(loaded.rows[split])
        return loaded.input(TEXT, split)

    def _described(
        self, datasets: tuple[str, ...], split: str, modality: str
    ) -> tuple[np.ndarray, np.ndarray]:
        found, has = [], []
        for dataset in datasets:
            part = self.datamodule.parts[split][dataset]
            store = part.stores.get(modality)
            there = np.zeros(part.size, bool) if store is None else store.has[part.rows]
            has.append(there)
            rows = part.rows[there]
            described = [
                DESCRIPTORS[modality](store.rows(rows[start : start + CHUNK])).numpy()
                for start in range(0, len(rows), CHUNK)
                if store is not None
            ]
            found.append((there, np.concatenate(described) if described else None))
        width = next((own.shape[1] for _, own in found if own is not None), 1)
        values = np.zeros((sum(map(len, has)), width), np.float32)
        start = 0
        for there, own in found:
            if own is not None:
                values[start + np.flatnonzero(there)] = own
            start += len(there)
        return values, np.concatenate(has)


def row_examples(
    name: str,
    task: Task,
    data: MixedDataModule,
    datasets: tuple[str, ...],
    split: str,
    rows: RowMatrices,
) -> Examples:
    if not isinstance(task.view, RowView) or task.modalities or task.maps is not None:
        raise NoLinearModelError("a linear model gives no answers of this kind")
    parts = [data.parts[split][d] for d in datasets]
    present = np.concatenate([part.present[name].numpy() for part in parts])
    targets = torch.cat([target for part in parts for target in part.labels(name)])
    require_few(len(targets), task)
    columns = task.label_columns(targets)
    if columns is None:
        raise NoLinearModelError("a linear model gives no answers of this kind")
    return Examples(rows.of(datasets)[split][np.flatnonzero(present)], columns.numpy(), targets)


def word_examples(
    name: str,
    task: Task,
    data: MixedDataModule,
    datasets: tuple[str, ...],
    split: str,
    _: RowMatrices,
) -> Examples:
    """Return each labelled word by its own features and those of its neighbours."""
    from sklearn.feature_extraction import FeatureHasher  # a second

    features: list[list[str]] = []
    places, targets = [], []
    for dataset in datasets:
        part = data.parts[split][dataset]
        present = part.present[name].numpy()
        targets += list(part.labels(name))
        texts = data.loaded[dataset].input(TEXT, split)
        for number in np.flatnonzero(present).tolist():
            words = words_of(first_text(texts[number]))
            places.append(np.arange(len(features), len(features) + len(words)))
            features += [word_features(words, place) for place in range(len(words))]
    width = max((target.shape[1] for target in targets), default=0)
    padded = [torch.nn.functional.pad(t, (0, width - t.shape[1]), value=-1) for t in targets]
    wanted = torch.cat(padded) if padded else torch.zeros(0, 0, dtype=torch.int64)
    place = np.full((len(places), width), -1)
    for row, own in enumerate(places):
        place[row, : len(own)] = own
    hasher = FeatureHasher(1 << WORD_BITS, input_type="string", alternate_sign=False)
    values = hasher.transform(features) if features else sparse.csr_matrix((0, 1 << WORD_BITS))
    numbers = wanted[torch.from_numpy(place) >= 0]
    require_few(len(numbers), task)
    columns = torch.nn.functional.one_hot(numbers, len(task.classes)).double().numpy()
    return Examples(values.tocsr(), columns, wanted, place)


def require_few(rows: int, task: Task) -> None:
    """Check that a number for each row and class fits into memory.

    Raises:
        NoLinearModelError: it doesn't.
    """
    if rows * len(task.classes) > MOST_LABELS:
        raise too_much(len(task.classes), rows)


def too_much(classes: int, rows: int) -> NoLinearModelError:
    return NoLinearModelError(f"{classes:,} classes of {rows:,} rows take a linear model too long")


def word_features(words: Sequence[str], place: int) -> list[str]:
    """Return what tells of a word: itself, its ends and shape, and the words around it."""
    word = words[place]
    shape = re.sub(r"\d", "0", re.sub(r"[^\W\d_]", lambda c: "aA"[c[0].isupper()], word))
    padded = ["", "", *(other.lower() for other in words), "", ""]
    around = {step: padded[place + 2 + step] for step in (-2, -1, 1, 2)}
    low = word.lower()
    return [
        f"word {low}",
        f"begin {low[:3]}",
        f"end {low[-3:]}",
        f"shape {shape[:8]}",
        *(f"{step} {other}" for step, other in around.items()),
        f"-1 0 {around[-1]} {low}",
        f"0 1 {low} {around[1]}",
        f"-2 -1 {around[-2]} {around[-1]}",
    ]


def best_linear(task: Task, train: Examples, valid: Examples) -> Linear:
    """Fit the training rows; the strength of the penalty is the one that validation likes best."""
    values, columns = train.values, train.columns
    if len(columns) > MOST_ROWS:
        chosen = np.linspace(0, len(columns) - 1, MOST_ROWS).astype(int)
        values, columns = values[chosen], columns[chosen]
    size = values.nnz if sparse.issparse(values) else values.size
    work = size * columns.shape[1]
    if work > MOST_WORK:
        raise too_much(columns.shape[1], len(columns))
    if not sparse.issparse(values):
        return ridge(values, columns)
    if not is_flags(columns):
        return sparse_ridge(values, columns)
    if work > CHEAP_WORK or len(valid.targets) < FEWEST:
        return support_vectors(values, columns, SLACKS[0])
    tried = [support_vectors(values, columns, slack) for slack in SLACKS]
    return max(tried, key=lambda one: valid.scores(task, one)[task.score])


def is_flags(columns: np.ndarray) -> bool:
    return bool(np.isin(columns, (0.0, 1.0)).all())


def ridge(values: np.ndarray, columns: np.ndarray) -> Linear:
    """Squared error and its penalty chosen by leaving rows out one at a time, exactly."""
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(PENALTIES).fit(values, columns)
    return Linear(np.atleast_2d(model.coef_).T, np.atleast_1d(model.intercept_))


def sparse_ridge(values: sparse.csr_matrix, columns: np.ndarray) -> Linear:
    from sklearn.linear_model import Ridge

    model = Ridge(1.0, solver="sparse_cg").fit(values, columns)
    return Linear(np.atleast_2d(model.coef_).T, np.atleast_1d(model.intercept_))


UNSEEN = -10.0  # margin of a class that no training row has


def support_vectors(values: sparse.csr_matrix, columns: np.ndarray, slack: float) -> Linear:
    """One class against the others; a column that says the same of all rows is told so.

    Margins of -1 and 1 are columns of 0 and 1.
    """
    from sklearn.svm import LinearSVC

    count, exclusive = columns.shape[1], bool((columns.sum(1) == 1).all())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a model that hasn't quite converged is as good
        if exclusive:
            numbers = columns.argmax(1)
            seen = np.unique(numbers)
            if len(seen) < 2:
                raise NoLinearModelError("the training rows are all of one class")
            model = LinearSVC(C=slack, random_state=0).fit(values, numbers)
            margins, offsets = model.coef_, model.intercept_
            if len(seen) == 2:
                margins = np.concatenate([-margins, margins])
                offsets = np.concatenate([-offsets, offsets])
        else:
            seen = np.flatnonzero((columns.min(0) < 1) & (columns.max(0) > 0))
            models = [LinearSVC(C=slack, random_state=0).fit(values, columns[:, k]) for k in seen]
            margins = np.concatenate([np.zeros((0, values.shape[1])), *(m.coef_ for m in models)])
            offsets = np.concatenate([np.zeros(0), *(m.intercept_ for m in models)])
    table = np.zeros((values.shape[1], count))
    table[:, seen] = margins.T / 2
    constant = np.full(count, UNSEEN) if exclusive else 2 * columns.mean(0) - 1
    constant[seen] = offsets
    return Linear(table, constant / 2 + 0.5)
