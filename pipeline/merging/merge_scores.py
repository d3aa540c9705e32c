"""Scores of the result, and of the models that it was made of, on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from lightning_modules.merging.evaluator import MergeEvaluator
from lightning_modules.state_dicts import StateDict
from lightning_modules.task_network import TaskNetwork
from lightning_modules.tasks.class_metrics import ConfusionCounts
from pipeline.calibration import CollectedRows
from pipeline.evaluation import evaluation_trainer
from pipeline.run_summary import TaskMetrics

SPLITS = ("valid", "test")


@dataclass
class MergeScores:
    """Scores by split.

    result: {split: {task: {metric: value}}}; models: the same of each model, its own tasks.
    matrices: {task: confusions} of the result on test; rows: that calibrate it.
    """

    result: dict[str, TaskMetrics]
    models: list[dict[str, TaskMetrics]]
    matrices: dict[str, ConfusionCounts]
    rows: CollectedRows


def score_all(
    evaluator: MergeEvaluator,
    state: StateDict,
    members: Callable[[int], TaskNetwork] | None,
    options: Mapping[str, Any],
    console: Console,
) -> MergeScores:
    """Measure everything as ``pipeline.evaluate`` does.

    Args:
        evaluator: runs the result.
        state: its weights.
        members: gives the network of each model; None: the result's can have its weights.
        options: of the trainer.
        console: where progress is shown.
    """
    if members is not None:
        evaluator.network.load_state_dict(dict(state))
    models = []
    for place, tasks in enumerate(evaluator.models.tasks):
        with use_single_model(evaluator, place, members):
            numbers, _ = evaluate_loaded(evaluator, options, console)
        own = {split: {t: n for t, n in ns.items() if t in tasks} for split, ns in numbers.items()}
        models.append(own)
    evaluator.network.load_state_dict(dict(state))
    rows = CollectedRows()
    result, matrices = evaluate_loaded(evaluator, options, console, rows)
    return MergeScores(result, models, matrices, rows)


def evaluate_loaded(
    evaluator: MergeEvaluator,
    options: Mapping[str, Any],
    console: Console,
    rows: CollectedRows | None = None,
) -> tuple[dict[str, TaskMetrics], dict[str, ConfusionCounts]]:
    """Return (scores by split, confusions on test) of the weights that are loaded.

    Args:
        rows: gets those that calibrate; None: they aren't kept.
    """
    found, matrices = {}, {}
    for split in SPLITS:
        trainer = evaluation_trainer(options, console)
        loader = evaluator.datamodule.evaluation_loader(split)
        data = evaluator.datamodule
        kept = nullcontext() if rows is None else rows.of(split, evaluator.module, data)
        with kept:
            trainer.test(evaluator.module, dataloaders=loader, verbose=False)
        found[split], matrices = (
            evaluator.module.results["test"],
            evaluator.module.confusion["test"],
        )
    return found, matrices


@contextmanager
def use_single_model(
    evaluator: MergeEvaluator, place: int, members: Callable[[int], TaskNetwork] | None
) -> Iterator[None]:
    """Have the module predict by one of the models; members: gives their networks."""
    if members is None:
        evaluator.load_model(place)
        yield
        return
    whole = evaluator.network
    evaluator.module.network = members(place)
    try:
        yield
    finally:
        evaluator.module.network = whole
