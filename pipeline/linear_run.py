"""``model=linear``: a run whose model is fitted at once, and kept as a trained network is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import seed_everything
from torch import Tensor

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.building import build_model
from lightning_modules.checkpoints import BEST, write_checkpoint
from lightning_modules.evaluation_module import EvaluationModule
from lightning_modules.linear_network import DescriptorModel, LinearModel, LinearNetwork
from lightning_modules.metrics import stage_metrics
from lightning_modules.predictor import NETWORK_PREFIX
from lightning_modules.tasks.base import Task, as_task
from lightning_modules.views import TEXT
from lightning_modules.wide_fit import FOLDS, best_scale
from pipeline import terminal
from pipeline.build import build_datamodule, model_spec
from pipeline.configuration.data_rules import keep_chosen_tasks
from pipeline.evaluation import evaluation_trainer
from pipeline.linear.scores import (
    EVALUATED,
    FEWEST,
    Examples,
    Linear,
    NoLinearModelError,
    RowMatrices,
    best_linear,
    examples_of,
    is_flags,
    labelled_datasets,
)
from pipeline.merging.merge_report import record_model
from pipeline.plots.run_plots import draw_confusions
from pipeline.recorded_run import recorded_run
from pipeline.run_folder import RunFolder
from pipeline.run_summary import RunSummary, constant_baselines, print_result, print_table
from pipeline.side_work import costs_only_itself
from pipeline.text_format import count, relpath
from pipeline.tracking.loggers import RunLogger
from pipeline.training_run import record_calibration, record_data, score_splits, write_outputs
from pollinate.console import new_console
from pollinate.errors import PollinateError
from pollinate.locks import FolderLock

MOST_WEIGHTS = 50_000_000  # terms and descriptors times columns


@dataclass
class FittedTask:
    """What one task's model is made of.

    linear: of all columns of its rows.
    learnt: what the columns were made with; see ``RowMatrices``.
    scale: of the margins.
    """

    linear: Linear
    learnt: Mapping[str, tuple[np.ndarray, ...]]
    scale: float

    def fill(self, model: LinearModel) -> None:
        """Put it into a network's model of the task."""
        start, tables = 0, {}
        for modality, (first, *_) in self.learnt.items():
            tables[modality] = tensor(self.linear.table[start : start + len(first)])
            start += len(first)
        for modality in self.learnt.keys() & model.described.keys():
            part = cast("DescriptorModel", model.described[modality])
            mean, rate, low, high = map(tensor, self.learnt[modality])
            table = tables[modality]
            part.fill({"mean": mean, "rate": rate, "low": low, "high": high, "table": table})
        nothing = np.zeros(0, np.int64), np.zeros(0)
        terms, idf = map(tensor, self.learnt.get(TEXT, nothing))
        words = {"terms": terms, "idf": idf, "bias": tensor(self.linear.bias)}
        table = tables.get(TEXT, torch.zeros(0, len(self.linear.bias)))
        model.words.fill({**words, "table": table, "scale": torch.tensor(self.scale)})


def tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))


def fit_task(name: str, data: MixedDataModule, rows: RowMatrices) -> FittedTask:
    """Fit the model that the linear column of a run's table is of.

    Raises:
        NoLinearModelError: there is none, or none that answers row by row.
    """
    task = as_task(data.tasks[name])
    if task.view.words:
        raise NoLinearModelError("only its scores are computed, as words have no columns of rows")
    examples = examples_of(name, data, rows)
    train = examples["train"]
    if train.values.shape[1] * train.columns.shape[1] > MOST_WEIGHTS:
        raise NoLinearModelError(
            f"{train.columns.shape[1]:,} classes by {train.values.shape[1]:,} terms are too many "
            "weights"
        )
    linear = best_linear(task, train, examples["valid"])
    scale = margin_scale(task, linear, train, examples["valid"])
    return FittedTask(linear, rows.learnt[labelled_datasets(data.tasks[name])], scale)


def margin_scale(task: Task, linear: Linear, train: Examples, valid: Examples) -> float:
    """Return the factor of the margins with which the task's loss is smallest; of numbers 1.

    It is chosen on validation rows, or, where they are few, on training rows that models of the
    others answer.
    """
    if not is_flags(train.columns):
        return 1.0
    if len(valid.targets) >= FEWEST:
        held, targets = linear(valid.values), valid.targets
    else:
        fold = np.random.default_rng(0).permutation(len(train.columns)) % FOLDS
        held, targets = np.zeros(train.columns.shape), train.targets
        for number in range(FOLDS):
            others, own = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            part = Examples(train.values[others], train.columns[others], targets[others])
            held[own] = best_linear(task, part, valid)(train.values[own])
    shift = task.linear_output(torch.from_numpy(held).double()) - task.neutral
    return best_scale(task, shift, targets)[0]


@dataclass
class FittedRun:
    """config: with the tasks that have a model; data: of these; tasks: {name: what was fitted}."""

    config: dict[str, Any]
    data: MixedDataModule
    tasks: dict[str, FittedTask]


def fit_tasks(config: Mapping[str, Any]) -> tuple[FittedRun, dict[str, str]]:
    """Return what was fitted, and {task that is left out: why}.

    Raises:
        PollinateError: no task has a linear model, or the data can't be used.
    """
    own = {**config, "data": with_terms(config["data"])}
    data = build_datamodule(own)
    data.setup()
    rows, found, reasons = RowMatrices(data), {}, {}
    for name in data.tasks:
        try:
            found[name] = fit_task(name, data, rows)
        except NoLinearModelError as reason:
            reasons[name] = str(reason)
    if not found:
        told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise PollinateError(f"no task has a linear model ({told}); leave out model=linear")
    if reasons:
        own = keep_chosen_tasks({**own, "tasks": list(found)})
        data = build_datamodule(own)  # whose record is of these alone
        data.setup()
    return FittedRun(own, data, found), reasons


def with_terms(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data's configuration with the terms of texts counted, if there are any."""
    if not any(TEXT in spec["inputs"] for spec in data["datasets"].values()):
        return dict(data)
    return {**data, TEXT: {**data[TEXT], "wide": True}}


def run_linear(
    config: Mapping[str, Any], folder: RunFolder, started: float, lock: FolderLock
) -> RunSummary:
    """Fit, keep, score, report; return how it ended.

    Args:
        config: of ``pipeline.fit``, with ``model`` linear.
        folder: of the run; it is new.
        started: ``time.perf_counter()`` when the command began.
        lock: of the folder.
    """
    console = new_console()
    say = partial(terminal.say, console)
    seed_everything(config["seed"], verbose=False)
    fitted, reasons = fit_tasks(config)
    data, config = fitted.data, fitted.config
    for line in data.notes:
        say(f"note: {line}")
    for name, why in reasons.items():
        say(f"note: task {name} is left out: {why}")
    tasks = {name: as_task(spec) for name, spec in data.tasks.items()}
    network = build_model(config, tasks, data.modalities)
    assert isinstance(network, LinearNetwork)
    for name, own in fitted.tasks.items():
        own.fill(network.of_task(name))
    size = sum(value.numel() for value in network.buffers())
    labels = data.labelled_rows()
    say(
        f"fitted linear models of {count(len(tasks), 'task')} to "
        f"{count(sum(data.sizes.values()), 'row')}, {size:,} numbers -> {relpath(folder.path)}"
    )
    summary = RunSummary(
        "failed",
        seed=config["seed"],
        labels=labels,
        rows_seen=labels,
        parameters={"total": size, "trained": size},
        no_linear=reasons,
    )
    folder.create()
    lock.acquire()
    with recorded_run(config, folder, summary, started) as tracker:
        state = {f"{NETWORK_PREFIX}{name}": value for name, value in network.state_dict().items()}
        checkpoint = {"state_dict": state, "pollinate": model_spec(config, data)}
        write_checkpoint(checkpoint, folder.checkpoints / BEST)
        record(fitted, EvaluationModule(network, tasks), folder, summary, tracker)
    print_table(console, summary, data)
    print_result(console, folder, config["tracking"])
    return summary


def record(
    fitted: FittedRun,
    module: EvaluationModule,
    folder: RunFolder,
    summary: RunSummary,
    tracker: RunLogger,
) -> None:
    """Score the model, and leave what a trained one leaves."""
    config, data, console = fitted.config, fitted.data, new_console()
    say = partial(terminal.say, console)

    def aside(what: str) -> Any:
        return costs_only_itself(what, config, folder, tracker, say, summary.problems)

    record_data(tracker, folder, data)
    trainer = evaluation_trainer(config["trainer"], console)
    rows = score_splits(trainer, module, data, config, summary)
    summary.baseline = constant_baselines(data)
    metrics: dict[str, float] = {}
    for split, numbers in zip(EVALUATED, (summary.valid, summary.test), strict=True):
        metrics |= stage_metrics(module.tasks, split, numbers)
    tracker.log_metrics(metrics, step=0)
    with aside("outputs"):
        write_outputs(folder, module, data, say)
    with aside("calibration"):
        record_calibration(module, rows, config, folder, summary, tracker, say)
    with aside("plots"):
        folder.plots.mkdir(exist_ok=True)
        for path in draw_confusions(folder, module, module.confusion.get("test", {})):
            tracker.log_artifact(path, "plots")
    with aside("model"):
        record_model(tracker, folder, config["allow_targets"])
