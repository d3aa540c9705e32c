"""Calibrates a trained model on validation rows, and measures on test rows what that did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lightning.pytorch import Trainer
from rich.table import Table

from datamodules.mixed_datamodule import HELD_BACK, MixedDataModule
from lightning_modules.evaluation_module import EvaluationModule
from lightning_modules.tasks.base import Task
from lightning_modules.trust.collector import TrustCollector
from lightning_modules.trust.row_scope import row_scopes
from lightning_modules.trust.stored import Trust
from lightning_modules.trust.task_trust import (
    COVERAGE,
    AnsweredRows,
    TrustReport,
    fit_trust,
    report_trust,
)
from pipeline.terminal import new_table
from pipeline.text_format import cell

Rows = dict[str, AnsweredRows]  # {task: rows}
SHOWN = 4  # tasks on one line


@dataclass
class CollectedRows:
    """What was kept while splits were measured: {split: {task: rows}}; nothing without calibration.

    The splits are valid, test, and what was held back of valid for calibration alone.
    """

    parts: dict[str, Rows] = field(default_factory=dict)

    @contextmanager
    def of(self, split: str, module: EvaluationModule, data: MixedDataModule) -> Iterator[None]:
        """Keep the rows of a split that is measured inside."""
        labelled = {
            name: sum(int(data.parts[split][d].present[name].sum()) for d in spec.datasets)
            for name, spec in data.tasks.items()
        }
        with TrustCollector(module.network, module.tasks, labelled) as collector:
            module.collector = collector
            try:
                yield
            finally:
                module.collector = None
            self.parts[split] = collector.take()

    def reports(
        self, split: str, tasks: Mapping[str, Task], trust: Trust
    ) -> dict[str, TrustReport]:
        """Return {task: what its calibration does to the rows of a split that were kept}."""
        return {
            name: report_trust(tasks[name], trust.tasks[name], rows, trust.coverage or COVERAGE)
            for name, rows in self.parts.get(split, {}).items()
            if name in trust.tasks and len(rows)
        }


def collect_held_back(
    trainer: Trainer, module: EvaluationModule, data: MixedDataModule, rows: CollectedRows
) -> None:
    """Answer the rows that were held back for calibration, if any were."""
    if HELD_BACK not in data.parts:
        return
    results, confusion = dict(module.results), dict(module.confusion)
    with rows.of(HELD_BACK, module, data):
        trainer.validate(module, dataloaders=data.evaluation_loader(HELD_BACK), verbose=False)
    module.results, module.confusion = results, confusion


@dataclass
class Calibration:
    """trust: for the checkpoint; reports: {task: what it did to rows of test}."""

    trust: Trust
    reports: dict[str, TrustReport]

    def summary(self) -> dict[str, dict[str, Any]]:
        """Return {task: what summary.json says of it}."""
        return {task: one.summary() for task, one in self.reports.items()}

    def metrics(self) -> dict[str, float]:
        """Return ``calibration/<task>/<name>`` for a tracker."""
        return {
            f"calibration/{task}/{name}": value
            for task, one in self.reports.items()
            for name, value in one.metrics().items()
        }

    def lines(self) -> Iterator[str]:
        """Yield what is said of it at the end of a run."""
        named = [
            f"{task} {cell(one.before['ece'])} -> {cell(one.after['ece'])}"
            for task, one in self.reports.items()
            if one.before and one.after
        ]
        if named:
            more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
            yield f"calibrated: expected error of probabilities {', '.join(named[:SHOWN])}{more}"


def calibrate(
    tasks: Mapping[str, Task], rows: CollectedRows, coverage: float | None
) -> Calibration:
    """Fit what calibrates each task to validation rows, and measure it on test rows.

    Args:
        tasks: {name: task}.
        rows: that were collected; those held back, if there are any, alone make the sets.
        coverage: that sets are to have wherever the model answers; None: only where asked.
    """
    valid, held_back = (rows.parts.get(split, {}) for split in ("valid", HELD_BACK))
    found = {
        name: fit_trust(tasks[name], own, held_back.get(name))
        for name, own in valid.items()
        if len(own)
    }
    trust = Trust(found, coverage, row_scopes(tasks, found, valid))
    return Calibration(trust, rows.reports("test", tasks, trust))


def calibration_table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return what calibration did to each task's probabilities, and what sets reach.

    Args:
        found: {task: what ``TrustReport.summary`` says}.
    """
    headings = ("task", "calibrator", "ece", "after", "nll", "after", "coverage", "size", "rows")
    table = new_table(*headings, numbers=7)
    names = ("ece_before", "ece", "nll_before", "nll", "coverage", "size")
    for task, one in found.items():
        shown = [cell(one.get(name)) for name in names]
        table.add_row(task, one["calibrator"], *shown, f"{one['rows']:,}")
    return table
