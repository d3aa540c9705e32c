"""What a checkpoint knows of how far a task's answers can be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from datamodules.counter_rng import uniforms
from lightning_modules.calibration.base import FEWEST, FOLDS, Calibrator, choose, folds_of, held_out
from lightning_modules.calibration.reliability import calibration_scores
from lightning_modules.calibration.risk_coverage import RiskCoverage
from lightning_modules.conformal.base import ConformalPredictor
from lightning_modules.out_of_scope.base import OutOfScopeScore, ScopeRows
from lightning_modules.out_of_scope.choice import SCORES, choose_score
from lightning_modules.tasks.base import Task

COVERAGE = 0.9  # at which sets are measured where no other is asked for
FALSE_ALARMS = 0.05  # share of usual rows that are marked as out of scope


@dataclass(frozen=True)
class AnsweredRows:
    """N labelled rows of a task, as a network answers them.

    output: (N, ...), as the head gives it; target: (N, ...).
    features: of the encoders, (N, D); None: unknown.
    numbers: {data set: (n,) int64}, the rows' numbers, one data set after the other; None: unknown.
    """

    output: Tensor
    target: Tensor
    features: Tensor | None = None
    numbers: Mapping[str, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.output)

    def __getitem__(self, chosen: Tensor) -> AnsweredRows:
        features = None if self.features is None else self.features[chosen]
        return AnsweredRows(self.output[chosen], self.target[chosen], features)

    def measured_by(self, task: Task) -> AnsweredRows:
        """Return the same rows with targets as the task's metrics take them."""
        return replace(self, target=task.metric_target(self.target))


@dataclass(frozen=True)
class TaskTrust:
    """How one task's outputs are calibrated, made sets of, and when they are doubtful.

    A part that is None doesn't exist for the task, or there were no rows.

    calibrator: of outputs; calibrator_name: in ``Task.calibrators``.
    sets: of calibrated outputs.
    selection: confidences and errors of the calibration rows.
    scope: how unlike the calibration rows a row is; scope_name: in ``SCORES``.
    scope_scores: (N,) rising, of calibration rows that the score was not fitted to.
    scope_area: how well the score tells rows of classes that it doesn't know: area under the ROC;
        None: not known.
    """

    calibrator: Calibrator | None = None
    calibrator_name: str = ""
    sets: ConformalPredictor | None = None
    selection: RiskCoverage | None = None
    scope: OutOfScopeScore | None = None
    scope_name: str = ""
    scope_scores: Tensor | None = None
    scope_area: float | None = None

    def calibrated(self, output: Tensor) -> Tensor:
        """Return calibrated outputs of outputs (N, ...)."""
        return output if self.calibrator is None else self.calibrator(output)

    def scope_of(self, task: Task, output: Tensor, features: Tensor | None) -> Tensor | None:
        """Return how unlike the calibration rows rows are, (N,); None: it can't be said."""
        rows = scope_rows(task, output, features)
        if self.scope is None or not self.scope.can_score(rows):
            return None
        return self.scope(rows).cpu()

    def scope_limit(self, false_alarms: float = FALSE_ALARMS) -> float:
        """Return the score above which a row is out of scope, and a share of usual ones, too."""
        assert self.scope_scores is not None
        return self.scope_scores.quantile(1 - false_alarms, interpolation="higher").item()

    def state(self) -> dict[str, Any]:
        """Return it as plain values and tensors."""
        found: dict[str, Any] = {}
        if self.calibrator is not None:
            found["calibrator"] = {"name": self.calibrator_name, "state": self.calibrator.state()}
        if self.sets is not None:
            found["sets"] = self.sets.state()
        if self.selection is not None:
            found["selection"] = self.selection.state()
        if self.scope is not None:
            found["scope"] = {
                "name": self.scope_name,
                "state": self.scope.state(),
                "scores": self.scope_scores,
                "area": self.scope_area,
            }
        return found

    @classmethod
    def restored(cls, task: Task, state: Mapping[str, Any]) -> TaskTrust:
        """Return what ``state`` was of; parts that the task doesn't know are left out."""
        found = cls()
        calibrator, scope = state.get("calibrator"), state.get("scope")
        candidates = task.calibrators()
        if calibrator and calibrator["name"] in candidates:
            name = calibrator["name"]
            made = candidates[name]().load(calibrator["state"])
            found = replace(found, calibrator=made, calibrator_name=name)
        sets = task.conformal()
        if "sets" in state and sets is not None:
            found = replace(found, sets=sets.load(state["sets"]))
        if "selection" in state:
            found = replace(found, selection=RiskCoverage().load(state["selection"]))
        if scope and scope["name"] in SCORES:
            made_scope = SCORES[scope["name"]]().load(scope["state"])
            found = replace(
                found,
                scope=made_scope,
                scope_name=scope["name"],
                scope_scores=scope["scores"],
                scope_area=scope.get("area"),
            )
        return found


def fit_trust(task: Task, rows: AnsweredRows, held_back: AnsweredRows | None = None) -> TaskTrust:
    """Calibrate a task.

    Args:
        task: whose answers.
        rows: that the network wasn't trained on, N >= 1.
        held_back: rows of which the scores of sets and the confidences are taken, which have chosen
            nothing. None: they are those of ``rows``, each calibrated by what was fitted to four
            fifths of the rows without it.
    """
    encoded, rows = rows, rows.measured_by(task)
    candidates, name, found = task.calibrators(), "", TaskTrust()
    made: Calibrator | None = None
    if candidates:
        name = choose(candidates, task.surprise, rows.output, rows.target)
        made = candidates[name]().fit(rows.output, rows.target)
        found = replace(found, calibrator=made, calibrator_name=name)
    if held_back is not None:
        kept, outputs = held_back.measured_by(task), found.calibrated(held_back.output)
    elif made is not None and len(rows) >= FEWEST:
        kept = rows
        fold = folds_of(len(rows))
        outputs = held_out(candidates[name], rows.output, rows.target, fold)
    else:
        kept, outputs = rows, found.calibrated(rows.output)
    sets = task.conformal()
    if sets is not None:
        sets.tune(found.calibrated(rows.output), rows.target)
        found = replace(found, sets=sets.calibrate(outputs, kept.target))
    # by the calibrator that new rows have: near 1 those of several can't be compared
    confidence = task.confidence(kept.output, found.calibrated(kept.output))
    if confidence is not None:
        errors = task.mistakes(kept.output, kept.target)
        found = replace(found, selection=RiskCoverage().fit(confidence, errors))
    return with_scope(task, found, encoded)


def with_scope(task: Task, trust: TaskTrust, rows: AnsweredRows) -> TaskTrust:
    """Return the same with a score of rows out of scope, if the task's rows suffice for one."""
    known = scope_rows(task, rows.output, rows.features, rows.target)
    ranking = choose_score(known)
    if not ranking or len(rows) < FEWEST:
        return trust
    name, area = next(iter(ranking.items()))
    score = SCORES[name]()
    fitted_to = scope_folds(rows) != 0
    if not score.numbers:  # nothing is fitted
        fitted_to = torch.zeros(len(rows), dtype=torch.bool)
    # scores of new rows are like those of rows that the score wasn't fitted to
    scores = score.fit(known[fitted_to])(known[~fitted_to]).float().sort().values
    known_area = None if math.isnan(area) else area
    return replace(trust, scope=score, scope_name=name, scope_scores=scores, scope_area=known_area)


def scope_folds(rows: AnsweredRows) -> Tensor:
    """Return the fold of each row, 0 to 4, of those that a score is fitted to or not: (N,).

    By the rows' numbers, where they are known: the same for all tasks.
    """
    if rows.numbers is None:
        return folds_of(len(rows))
    numbers = torch.cat(list(rows.numbers.values())).numpy()
    return torch.from_numpy((uniforms(1, numbers, count=1)[:, 0] * FOLDS).astype("int64"))


def scope_rows(
    task: Task, output: Tensor, features: Tensor | None, target: Tensor | None = None
) -> ScopeRows:
    """Return what the scores of rows out of scope may look at."""
    space = task.output_space()
    logits = output if space is not None and space.exclusive else None
    return ScopeRows(features, logits, None if target is None else task.class_numbers(target))


@dataclass(frozen=True)
class TrustReport:
    """What calibration did to a task, on rows that took no part in it.

    before, after: {ece, ece_debiased, nll, brier or crps}; before is empty where outputs state no
        distribution by themselves.
    coverage: of sets at ``COVERAGE``; size: their mean number of classes, or mean width.
    area: under the risk-coverage curve; smaller is better.
    scope_area: see ``TaskTrust``.
    rows: that were measured; calibrator and scope: names, empty if there is none.
    """

    rows: int
    calibrator: str = ""
    scope: str = ""
    before: Mapping[str, float] | None = None
    after: Mapping[str, float] | None = None
    coverage: float | None = None
    size: float | None = None
    area: float | None = None
    scope_area: float | None = None

    def summary(self) -> dict[str, Any]:
        """Return all of it, {name: value}."""
        names = {"rows": self.rows, "calibrator": self.calibrator, "scope": self.scope}
        return names | self.metrics()

    def metrics(self) -> dict[str, float]:
        """Return its numbers, {name: number}."""
        found = {f"{name}_before": v for name, v in (self.before or {}).items()}
        found |= dict(self.after or {})
        more = {
            "coverage": self.coverage,
            "size": self.size,
            "risk_area": self.area,
            "scope_area": self.scope_area,
        }
        return found | {name: value for name, value in more.items() if value is not None}


def report_trust(
    task: Task, trust: TaskTrust, rows: AnsweredRows, coverage: float = COVERAGE
) -> TrustReport:
    """Measure a task's calibration on N >= 1 other rows."""
    rows, calibrated = rows.measured_by(task), trust.calibrated(rows.output)
    measure = partial(distribution_scores, task)
    found = TrustReport(
        len(rows),
        trust.calibrator_name,
        trust.scope_name,
        measure(rows.output, rows.target),
        measure(calibrated, rows.target),
        scope_area=trust.scope_area,
    )
    if trust.sets is not None and trust.sets.rows:
        reached = trust.sets.reached(calibrated, rows.target, coverage)
        found = replace(found, coverage=reached.coverage, size=reached.size)
    confidence = task.confidence(rows.output, calibrated)
    if confidence is not None:
        errors = task.mistakes(rows.output, rows.target)
        found = replace(found, area=RiskCoverage().fit(confidence, errors).area)
    return found


def distribution_scores(task: Task, output: Tensor, target: Tensor) -> dict[str, float]:
    """Return the calibration scores of outputs, {} where they state no distribution."""
    found = task.scored_distribution(output, target)
    return {} if found is None or not len(found[1]) else calibration_scores(*found)
