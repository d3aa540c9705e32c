"""Scores of the result, and of the models that it was made of, on the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from torch import Tensor

from lightning_modules.averaging import State
from lightning_modules.ensemble import Ensemble
from lightning_modules.merging.bench import Bench
from pipeline.evaluation import evaluator
from pipeline.report import Numbers

SPLITS = ("valid", "test")


@dataclass
class Scored:
    """Scores by split.

    result: {split: {task: {metric: value}}}; models: the same of each model, its own tasks.
    matrices: {task: confusion matrix (C, C)} of the result on test.
    """

    result: dict[str, Numbers]
    models: list[dict[str, Numbers]]
    matrices: dict[str, Tensor]


def score_all(
    bench: Bench,
    state: State,
    keeps_members: bool,
    options: Mapping[str, Any],
    console: Console,
) -> Scored:
    """Measure everything as ``pipeline.evaluate`` does.

    Args:
        bench: has data and network.
        state: weights of the result.
        keeps_members: whether the models' networks are in the result.
        options: of a trainer, on which scores depend.
        console: where progress is shown.
    """
    models = []
    for place, tasks in enumerate(bench.models.tasks):
        with only_model(bench, place, state if keeps_members else None):
            numbers, _ = measured(bench, options, console)
        own = {split: {t: n for t, n in ns.items() if t in tasks} for split, ns in numbers.items()}
        models.append(own)
    bench.network.load_state_dict(dict(state))
    result, matrices = measured(bench, options, console)
    return Scored(result, models, matrices)


def measured(
    bench: Bench, options: Mapping[str, Any], console: Console
) -> tuple[dict[str, Numbers], dict[str, Tensor]]:
    """Return (scores by split, confusion matrices on test) of the weights that are loaded."""
    found, matrices = {}, {}
    for split in SPLITS:
        trainer, figures = evaluator(options, console)
        loader = bench.datamodule.evaluation_loader(split)
        trainer.test(bench.module, dataloaders=loader, verbose=False)
        found[split], matrices = figures.stage_scores["test"], figures.matrices["test"]
    return found, matrices


@contextmanager
def only_model(bench: Bench, place: int, ensemble: State | None) -> Iterator[None]:
    """Have the module answer as one of the models, alone."""
    if ensemble is None:
        bench.load_model(place)
        yield
        return
    whole = bench.network
    assert isinstance(whole, Ensemble)
    whole.load_state_dict(dict(ensemble))
    bench.module.network = whole.member(place)
    try:
        yield
    finally:
        bench.module.network = whole
