"""What a study compared, and what each of its runs reached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

ArmKind = Literal["single_task", "multi_task", "pair", "group", "variant", "transfer"]
TrialStatus = Literal["waiting", "running", "finished", "failed", "timeout"]
Scores = dict[str, float]  # {task: its score, larger is better}


@dataclass(frozen=True)
class Arm:
    """One of the things that are compared.

    name: unique: ``single_task:digit``, ``multi_task``, ``pair:digit+optdigit``, ``upgrad``, ...
    kind: single_task: one task; multi_task: all as configured; pair, group: some; variant: the
        multi-task run with options of its own; transfer: one task that begins from another's model.
    tasks: that are trained.
    overrides: of pipeline.fit, besides those of every run of the study.
    source: task whose model a transfer begins from.
    weights: {task: weight} of the losses where a pair was tried with several.
    labels: share of the training labels, in (0, 1].
    """

    name: str
    kind: ArmKind
    tasks: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    source: str | None = None
    weights: tuple[tuple[str, float], ...] = ()
    labels: float = 1.0


@dataclass
class TrialResult:
    """One run of an arm.

    folder: of the run, relative to the study's.
    command: that repeats it.
    test, valid: scores of the weights that were best on validation.
    calibration: {task: figures on test}: see ``ArmCalibration``; empty without calibration.
    baseline, linear: on test, of the best constant answer and of a linear model.
    labels: {task: labelled training rows that the run could see}; rows_seen: that it took.
    seconds: wall time of training and evaluation, all sessions.
    parameters: weights of the network; memory: most bytes that its process held.
    run_id: of MLflow's run; message: why it has failed.
    """

    arm: str
    seed: int
    folder: str
    command: list[str]
    status: TrialStatus = "waiting"
    test: Scores = field(default_factory=dict)
    valid: Scores = field(default_factory=dict)
    baseline: Scores = field(default_factory=dict)
    linear: Scores = field(default_factory=dict)
    calibration: dict[str, dict[str, float]] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    rows_seen: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    parameters: int | None = None
    memory: int | None = None
    run_id: str | None = None
    message: str | None = None


@dataclass
class StudyResults:
    """A study so far.

    metrics: {task: the metric that is its score}.
    seeds: of every arm.
    predictors: {score: {target task: {source task: value}}} of what guesses gains without training
        them; seconds: {score: that it took}.
    notes: what a reader should know: one seed, trials that failed.
    """

    name: str
    metrics: dict[str, str]
    seeds: list[int]
    arms: dict[str, Arm]
    trials: list[TrialResult]
    predictors: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    predictor_seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def references(self) -> dict[str, Scores]:
        """Return {"baseline" and "linear": scores on test}, of runs that had all labels.

        Tasks and splits are the same in all of them. A reference that no run has is left out.
        """
        full = [trial for trial in self.trials if self.arms[trial.arm].labels == 1]
        found: dict[str, Scores] = {
            "baseline": {task: v for trial in full for task, v in trial.baseline.items()},
            "linear": {task: v for trial in full for task, v in trial.linear.items()},
        }
        return {name: scores for name, scores in found.items() if scores}

    def finished(self, arm: str) -> Iterator[TrialResult]:
        own = (trial for trial in self.trials if trial.arm == arm and trial.status == "finished")
        yield from sorted(own, key=lambda trial: trial.seed)
