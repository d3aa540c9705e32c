"""Fits the wide paths of a network to the training rows, as linear models of each task."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from datamodules.arrays import FileArrays, RaggedArray
from datamodules.mixed_datamodule import MixedDataModule
from datamodules.modalities.text import TextStore
from datamodules.progress_bar import track
from datamodules.split_dataset import SplitDataset
from datamodules.terms import TERMS, TermWeights
from lightning_modules.golden_section import golden_section
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.tasks.base import Task
from lightning_modules.views import TEXT
from lightning_modules.wide_path import FITTED
from pollinate.recipes import recipe_of

FORMAT = 3  # of what the cache holds; raised when what is fitted changes
SLACKS = (1.0, 0.3)  # C, one over the penalty; the first where trying them would take long
FEW = 8_000_000  # numbers of the rows times columns up to which they are tried
CHEAP = 60_000_000  # of the same up to which two models of each column are fitted
MOST_WORK = 2_000_000_000  # of the same up to which there is a wide path
MOST_LABELS = 20_000_000  # rows times columns
MOST_WEIGHTS = 50_000_000  # terms times columns
FEWEST = 20  # labelled rows
FOLDS, FOLDS_OF_MANY = 5, 3
TOLERANCE, MOST_STEPS = 1e-3, 100  # of the conjugate gradients
SCALES = (1e-2, 1e3)  # between which s is looked for
PRECISION = 0.02  # of the logarithm of s
HELD_OUT = "held_out"


class NoWidePathError(Exception):
    """Why a task has none."""


def fit_wide_paths(
    network: MultiTaskNetwork, tasks: Mapping[str, Task], data: MixedDataModule
) -> None:
    """Fill wide paths from training rows, and give these the columns of models without them.

    What was fitted is kept: the same rows and labels are not fitted again, in whatever run.

    Args:
        network: whose paths are filled in place.
        tasks: {name: task}.
        data: is set up; its training rows get ``SplitDataset.held_out``, and ``notes`` which tasks
            have no path, and why.
    """
    paths, rows = {name: network.wide_path(name) for name in network.wide}, TermRows(data)
    known = len(data.policy.cache.notes)
    for name in track(list(paths), "fitting words") if paths else ():
        task, parts = tasks[name], [data.parts["train"][d] for d in tasks[name].datasets]

        def make(folder: Path, task: Task = task, name: str = name) -> None:
            arrays = FileArrays(folder)
            try:
                found = fit_task(name, task, data, rows)
            except NoWidePathError as reason:
                arrays.put("reason", str(reason))
                return
            arrays.put("reason", "")
            for part, values in found.items():
                arrays.create(part, values.shape, values.dtype)[...] = values

        arrays = FileArrays(data.policy.cache.get("wide", cache_key(name, task, data), make))
        if arrays.value("reason"):
            data.notes.append(f"task {name} has no wide path: {arrays.value('reason')}")
            continue
        values = {key: torch.from_numpy(np.array(arrays.get(key))) for key in FITTED}
        paths[name].fill({**values, "scale": values["scale"].reshape(())})
        columns = torch.from_numpy(np.array(arrays.get(HELD_OUT)))
        sizes = [part.size for part in parts]
        for part, own in zip(parts, torch.split(columns, sizes), strict=True):
            part.held_out = {**part.held_out, name: own}
    for name, part in data.parts["train"].items() if paths else ():
        readers = {task for task in paths if name in tasks[task].datasets}
        part.gives_terms = not readers <= part.held_out.keys()
    data.notes += data.policy.cache.notes[known:]


def cache_key(name: str, task: Task, data: MixedDataModule) -> list[Any]:
    """Return what a task's path depends on."""
    parts = []
    for dataset in task.datasets:
        own = data.parts["train"][dataset]
        rows = hashlib.sha256(own.rows.tobytes() + own.present[name].numpy().tobytes())
        inputs, loaded = data.datasets[dataset].inputs, data.loaded[dataset]
        column = {TEXT: inputs[TEXT]} if TEXT in inputs else {}
        parts.append([loaded.digest, column, task.target_in(dataset), rows.hexdigest()])
    recipe = recipe_of(task)  # with what its loss depends on
    options = {k: v for k, v in recipe.node().items() if k not in ("dataset", "target")}
    known = [options, task.state_dict(), parts]
    return [FORMAT, version("scikit-learn"), json.loads(json.dumps(known, default=str))]


class TermRows:
    """Training rows as counts of terms; tasks of the same data sets share them."""

    def __init__(self, data: MixedDataModule) -> None:
        self.data = data
        self._known: dict[tuple[str, ...], sparse.csr_matrix] = {}

    def of(self, datasets: Sequence[str]) -> sparse.csr_matrix:
        """Return (N, TERMS) of the data sets' rows, one after another."""
        key = tuple(datasets)
        if key not in self._known:
            parts = [self.data.parts["train"][name] for name in datasets]
            self._known[key] = sparse.vstack([counted(part) for part in parts], "csr")
        return self._known[key]


def counted(part: SplitDataset) -> sparse.csr_matrix:
    """Return the counts of terms of a part's rows: (N, TERMS), none in a row without text."""
    store = part.stores.get(TEXT)
    if store is None:
        return sparse.csr_matrix((part.size, TERMS), dtype=np.float32)
    if not isinstance(store, TextStore) or store.counted is None:
        raise NoWidePathError("its rows are streamed, and a linear model needs them at once")
    kept: RaggedArray = store.counted
    lengths = kept.lengths()[part.rows]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    places = np.arange(starts[-1]) + np.repeat(kept.starts[part.rows] - starts[:-1], lengths)
    flat = np.asarray(kept.flat[places])
    return sparse.csr_matrix(
        (flat[:, 1].astype(np.float32), flat[:, 0], starts), shape=(part.size, TERMS)
    )


def fit_task(name: str, task: Task, data: MixedDataModule, rows: TermRows) -> dict[str, np.ndarray]:
    """Return what fills a path, and the columns of all training rows, which are held out."""
    parts = [data.parts["train"][dataset] for dataset in task.datasets]
    present = np.concatenate([part.present[name].numpy() for part in parts])
    if present.sum() < FEWEST:
        raise NoWidePathError(f"it has {present.sum()} labelled training rows, fewer than {FEWEST}")
    targets = torch.cat([target for part in parts for target in part.labels(name)])
    if len(targets) * max(1, len(task.classes)) > MOST_LABELS:
        raise NoWidePathError(
            f"{len(task.classes):,} classes of {len(targets):,} rows are too many"
        )
    wanted = task.label_columns(targets)
    if wanted is None:
        raise NoWidePathError("a linear model gives no answers of this kind")
    counts = rows.of(task.datasets)
    terms = TermWeights(counts[np.flatnonzero(present)])
    columns = wanted.numpy().astype(np.float32)
    work = terms.values.nnz * columns.shape[1]
    if work > MOST_WORK or len(terms.numbers) * columns.shape[1] > MOST_WEIGHTS:
        raise NoWidePathError(
            f"{columns.shape[1]:,} classes of {len(columns):,} texts take a linear model too long"
        )
    few, both, best = work < FEW, work < CHEAP and not task.any_columns, None
    for slack in SLACKS if few else SLACKS[:1]:
        folds = FOLDS if few else FOLDS_OF_MANY
        held = held_out_columns(terms.values, columns, slack, both, folds)
        offset = best_offset(task, held, targets) if task.any_columns else np.float32(0)
        held += offset
        shift = task.linear_shift(torch.from_numpy(held).double())
        scale, loss = best_scale(task, shift, targets)
        if best is None or loss < best[0]:
            best = loss, scale, slack, held, offset
    assert best is not None
    _, scale, slack, held, offset = best
    table, bias = linear_model(terms.values, columns, slack, both)
    bias += offset
    every = np.empty((len(present), columns.shape[1]), np.float32)
    every[present] = held
    every[~present] = terms.of(counts[np.flatnonzero(~present)]) @ table + bias
    return {
        "terms": terms.numbers.astype(np.int32),
        "idf": terms.idf,
        "table": table,
        "bias": bias,
        "scale": np.array([scale], np.float32),
        HELD_OUT: every,
    }


Linear = tuple[np.ndarray, np.ndarray]  # W (F, K) and b (K,): columns are X W + b


def held_out_columns(
    values: sparse.csr_matrix, columns: np.ndarray, slack: float, both: bool, folds: int
) -> np.ndarray:
    """Return each row's columns from a model of the other folds' rows: (N, K)."""
    fold = np.random.default_rng(0).permutation(len(columns)) % folds
    found = np.empty_like(columns)
    for number in range(folds):
        own, others = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        table, bias = linear_model(values[others], columns[others], slack, both)
        found[own] = values[own] @ table + bias
    return found


def linear_model(
    values: sparse.csr_matrix, columns: np.ndarray, slack: float, both: bool
) -> Linear:
    """Return the linear model of columns.

    Of numbers it is ridge regression. Of flags it is a support vector machine, or the mean of that
    and of ridge regression on terms that are weighted by what they say of the flag: the two err
    differently, and where one flag of a row is right their mean errs less than either. Where any
    number may be, ridge regression's answers to a rare flag are too near to 0 to be averaged.

    Args:
        values: X, (N, F); columns: (N, K), numbers of mean 0, or flags of 0 and 1.
        slack: one over the penalty.
        both: whether flags have both models.
    """
    if not np.isin(columns, (0.0, 1.0)).all():
        return ridge(values, columns, 1 / slack)
    count = columns.shape[1]
    table, bias = np.zeros((values.shape[1], count), np.float32), columns.mean(axis=0)
    two = count == 2 and bool((columns.sum(axis=1) == 1).all())  # the one is what the other isn't
    for number in range(1 if two else count):
        flag = columns[:, number]
        if 0 < flag.mean() < 1:
            found = [support_vectors(values, flag, slack)]
            if both:
                found.append(naive_bayes_ridge(values, flag))
            table[:, number] = np.mean([own for own, _ in found], axis=0)
            bias[number] = np.mean([own for _, own in found])
    if two:
        table[:, 1], bias[1] = -table[:, 0], 1 - bias[0]
    return table, bias


def support_vectors(
    values: sparse.csr_matrix, flag: np.ndarray, slack: float
) -> tuple[np.ndarray, float]:
    """Return w (F,) and b of a flag, where margins of -1 and 1 are 0 and 1 (Fan et al. 2008)."""
    from sklearn.svm import LinearSVC  # a second

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a model that hasn't quite converged is as good
        model = LinearSVC(C=slack, random_state=0).fit(values, flag > 0)
    return model.coef_[0] / 2, model.intercept_[0] / 2 + 0.5


def naive_bayes_ridge(values: sparse.csr_matrix, flag: np.ndarray) -> tuple[np.ndarray, float]:
    """Return w (F,) and b of ridge regression on terms times their naive Bayes weights.

    r = log((p / |p|) / (q / |q|)), p and q the numbers of texts with the term, plus 1, with and
    without the flag; rows are scaled to the norm that they had. Source: Wang & Manning 2012.
    """
    there = sparse.csr_matrix(
        (np.ones_like(values.data), values.indices, values.indptr), values.shape
    )
    with_flag = there.T @ flag + 1
    without = there.T @ (1 - flag) + 1
    weight = np.log((with_flag / with_flag.sum()) / (without / without.sum()))
    scaled = values.multiply(weight).tocsr().astype(np.float32)
    norm = np.sqrt(values.power(2).sum() / max(scaled.power(2).sum(), 1e-12))
    table, bias = ridge(scaled * np.float32(norm), flag[:, None], 1.0)
    return table[:, 0] * weight * norm, float(bias[0])


def ridge(values: sparse.csr_matrix, columns: np.ndarray, penalty: float) -> Linear:
    """Return the W and b that minimise |X W + b - Y|^2 + penalty |W|^2.

    By conjugate gradients on (Z Z^T + penalty) V = Y - mean, W = Z^T V, with Z = X - mean: all
    columns at once, each with steps of its own. Source: Hestenes & Stiefel 1952.
    """
    across = values.T.tocsr()
    mean_row = np.asarray(values.mean(axis=0), np.float32).reshape(-1)
    mean = columns.mean(axis=0)

    def weights(v: np.ndarray) -> np.ndarray:
        found: np.ndarray = across @ v - mean_row[:, None] * v.sum(axis=0)
        return found

    def product(v: np.ndarray) -> np.ndarray:
        w = weights(v)
        found: np.ndarray = values @ w - mean_row @ w + penalty * v
        return found

    residual = (columns - mean).astype(np.float32)
    solution, direction = np.zeros_like(residual), residual.copy()
    square = (residual**2).sum(axis=0)
    enough = TOLERANCE**2 * np.maximum(square, 1e-12)
    for _ in range(MOST_STEPS):
        if (square <= enough).all():
            break
        moved = product(direction)
        step = square / np.maximum((direction * moved).sum(axis=0), 1e-30)
        solution += step * direction
        residual -= step * moved
        new = (residual**2).sum(axis=0)
        direction = residual + new / np.maximum(square, 1e-30) * direction
        square = new
    table = weights(solution).astype(np.float32)
    return table, (mean - mean_row @ table).astype(np.float32)


def best_offset(task: Task, columns: np.ndarray, targets: Tensor) -> np.float32:
    """Return the o that, with the best s, gives s f(columns + o) the smallest mean loss.

    Margins of a rare flag are below 0 also where it is as likely as not. Source: Platt 1999,
    "Probabilistic outputs for support vector machines", section 2.

    Args:
        task: whose loss.
        columns: (N, K), of models that didn't see the rows; targets: (N, ...).
    """
    from scipy.optimize import minimize  # half a second

    held = torch.from_numpy(columns).double()

    def loss(point: np.ndarray) -> float:
        shift = task.linear_shift(held + float(point[1]))
        return task.loss(task.neutral + math.exp(point[0]) * shift, targets).mean().item()

    return np.float32(minimize(loss, (1.0, 0.0), method="Nelder-Mead").x[1])


def best_scale(task: Task, shift: Tensor, targets: Tensor) -> tuple[float, float]:
    """Return the factor s that gives s f the smallest mean loss, and that loss.

    Of N rows, one more counts as predicted the other way round, by -s f: where all are
    right, s would grow without end, and no row would move the rest of the network any more.

    Args:
        task: whose loss.
        shift: f, what is added to the task's neutral output by models that didn't see the rows:
            (N, ...) float64; targets: (N, ...).
    """

    def loss(log_scale: Tensor) -> Tensor:
        moved = math.exp(log_scale.item()) * shift
        right, wrong = (task.loss(task.neutral + s * moved, targets).mean() for s in (1, -1))
        return (right + wrong / len(targets)).double().reshape(1)

    low, high = map(math.log, SCALES)
    log_scale = golden_section(loss, low, high, PRECISION)
    return math.exp(log_scale.item()), loss(log_scale).item()
