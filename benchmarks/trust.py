"""How well calibration and coverage hold: on kept outputs of runs, over random splits.

    pollinate fit data=... keep_outputs=[valid,test] run_dir=runs/NAME
    python -m benchmarks.trust runs/NAME [runs/OTHER ...]

For each task of a run the test rows are parted at random 20 times: one half calibrates, the other
is measured. Reported are means over the splits, with the standard deviation of the coverage:
  ece          expected calibration error, before -> after; the same of the run's own calibration,
               fitted to validation rows and measured on all of test, is in its summary.json
  coverage     of sets at 90 %, which may be empty, so that it can be 90 %; their mean size
  MAPIE        coverage and size of its RAPS sets, random as ours, on the same probabilities
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from torch import Tensor

import pollinate as po
from lightning_modules.conformal.class_sets import OptionSets
from lightning_modules.tasks.base import Task
from lightning_modules.trust.task_trust import AnsweredRows, fit_trust, report_trust

SPLITS = 20
COVERAGE = 0.9


class Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier whose inputs are probabilities."""

    def __init__(self, classes: int = 2) -> None:
        self.classes = classes
        self.classes_ = np.arange(classes)
        self.fitted_ = True

    def fit(self, rows: Any, target: Any) -> Given:
        return self

    def predict_proba(self, rows: Any) -> Any:
        return rows

    def predict(self, rows: Any) -> Any:
        return rows.argmax(axis=1)


def mapie_sets(
    probabilities: Tensor, target: Tensor, new: Tensor, wanted: Tensor
) -> tuple[float, float]:
    """Return coverage and mean size of MAPIE's sets."""
    from mapie.classification import SplitConformalClassifier
    from mapie.conformity_scores import RAPSConformityScore

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind = RAPSConformityScore(size_raps=0.2)
        found = SplitConformalClassifier(
            Given(probabilities.shape[1]), COVERAGE, kind, prefit=True, random_state=0
        )
        found.conformalize(probabilities.numpy(), target.numpy())
        _, sets = found.predict_set(
            new.numpy(), conformity_score_params={"include_last_label": "randomized"}
        )
    inside = sets[np.arange(len(wanted)), wanted.numpy(), 0]
    return float(inside.mean()), float(sets[:, :, 0].sum(axis=1).mean())


@dataclass
class Split:
    """What one split measured."""

    before: float | None
    after: float | None
    coverage: float | None
    size: float | None
    mapie: tuple[float, float] | None
    seconds: float


def splits(task: Task, rows: AnsweredRows) -> Iterator[Split]:
    """Yield what each random split says of a task."""
    for seed in range(SPLITS):
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
        own, other = rows[order[: len(rows) // 2]], rows[order[len(rows) // 2 :]]
        started = time.perf_counter()
        trust = fit_trust(task, own)
        if isinstance(trust.sets, OptionSets):
            trust.sets.empty = True
            trust.sets.fit(trust.calibrated(own.output), task.metric_target(own.target))
        seconds = time.perf_counter() - started
        found = report_trust(task, trust, other, COVERAGE)
        mapie, numbers = None, task.class_numbers(own.target)
        probabilities = task.class_probabilities(trust.calibrated(own.output))
        if task.output_space() is not None and numbers is not None and probabilities is not None:
            new = task.class_probabilities(trust.calibrated(other.output))
            assert new is not None
            mapie = mapie_sets(probabilities, own.target, new, other.target)
        before, after = (found.before or {}).get("ece"), (found.after or {}).get("ece")
        yield Split(before, after, found.coverage, found.size, mapie, seconds)


def mean(values: list[float]) -> str:
    return f"{np.mean(values):.3f}" if values else "-"


def main(folders: list[str]) -> None:
    if not folders:
        sys.exit(__doc__)
    names = ("run", "task", "rows", "ece", "after", "coverage", "+-", "size", "MAPIE", "size", "s")
    print(" | ".join(names))
    for folder in folders:
        run = po.Run(folder)
        tasks = run.model().tasks
        for name, kept in run.outputs("test").items():
            if not tasks[name].calibrators() and tasks[name].conformal() is None:
                continue
            rows = AnsweredRows(kept["output"], kept["target"])
            found = list(splits(tasks[name], rows))
            reached = [one.coverage for one in found if one.coverage is not None]
            mapie = [one.mapie for one in found if one.mapie is not None]
            columns = (
                Path(folder).name,
                name,
                f"{len(rows):,}",
                mean([one.before for one in found if one.before is not None]),
                mean([one.after for one in found if one.after is not None]),
                mean(reached),
                f"{np.std(reached):.3f}" if reached else "-",
                mean([one.size for one in found if one.size is not None]),
                mean([own for own, _ in mapie]),
                mean([size for _, size in mapie]),
                mean([one.seconds for one in found]),
            )
            print(" | ".join(columns), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
