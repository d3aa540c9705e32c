"""Sets, intervals and abstentions beside answers, as a user asks for them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_modules.conformal.base import require_coverage
from lightning_modules.conformal.drift import drift_distance
from lightning_modules.tasks.base import Label, Task
from lightning_modules.trust.row_scope import RowScope
from lightning_modules.trust.samples import states_uncertainty, uncertainty_parts
from lightning_modules.trust.task_trust import TaskTrust
from pollinate.errors import UsageError

ABSTAIN = "abstain"  # key of an answer, and suffix of its column
PARTS = ("total", "aleatoric", "epistemic")
UNSURE, STRANGE = "unsure", "out of scope"  # its values; answered: an empty text
UNCALIBRATED = (
    "the checkpoint isn't calibrated: it was written by an earlier version, by a merge, or with "
    "calibration=none; calibrate it: pollinate calibrate checkpoint=PATH"
)


@dataclass(frozen=True)
class DoubtOptions:
    """What is asked for beside the answers; None: not.

    coverage: c, in (0, 1): sets and intervals that hold the truth with this probability.
    per_class: whether that is to hold for each class.
    risk: mark answers so that the others err at most so often, with 95 % confidence, in (0, 1).
    answered: mark answers so that this share of usual rows is answered, in (0, 1].
    false_alarms: mark rows out of scope, and this share of usual rows, too, in (0, 1).
    together: mark a row by the scores of all tasks that read it, not each answer by its task's.
    parts: say whence the uncertainty comes, of the members of an ensemble, or of the same model
        with dropout: {task}_total, _aleatoric and _epistemic.
    dropout: times that each model answers with its dropout, for ``parts``; 0: once, without.
    """

    coverage: float | None = None
    per_class: bool = False
    risk: float | None = None
    answered: float | None = None
    false_alarms: float | None = None
    together: bool = False
    parts: bool = False
    dropout: int = 0

    def __post_init__(self) -> None:
        if self.coverage is not None:
            require_coverage(self.coverage)
        if self.dropout < 0 or (self.dropout and not self.parts):
            raise UsageError(
                f"dropout must be >= 0 times, and needs parts=true, got {self.dropout}"
            )
        if self.risk is not None and self.answered is not None:
            raise UsageError("abstain takes a risk or a share of answered rows, not both")
        for name, value in (("risk", self.risk), ("false_alarms", self.false_alarms)):
            if value is not None and not 0 < value < 1:
                raise UsageError(f"abstain.{name} must be in (0, 1), got {value}")
        if self.together and self.false_alarms is None:
            raise UsageError("abstain.together needs abstain.false_alarms, such as 0.05")
        if self.answered is not None and not 0 < self.answered <= 1:
            raise UsageError(f"abstain.answered must be in (0, 1], got {self.answered}")

    @property
    def abstains(self) -> bool:
        return any(v is not None for v in (self.risk, self.answered, self.false_alarms))

    @property
    def asked(self) -> bool:
        return self.coverage is not None or self.abstains or self.parts


class Doubts:
    """Adds to one task's answers what was asked for.

    Args:
        name: of the task.
        task: the task.
        trust: what the checkpoint knows of it.
        options: what is asked for.

    Attributes:
        notes: what of that doesn't hold, or can't be had, and why.
    """

    def __init__(self, name: str, task: Task, trust: TaskTrust, options: DoubtOptions) -> None:
        self.name, self.task, self.trust, self.options = name, task, trust, options
        self.notes: list[str] = []
        self.sets = trust.sets if options.coverage is not None else None
        if options.coverage is not None:
            self._check_sets(options.coverage)
        self.least_confidence = self._least_confidence()
        self.most_strange = math.inf
        if options.false_alarms is not None:
            if trust.scope is None:
                self.notes.append(f"{name} has no score of rows out of scope")
            else:
                self.most_strange = trust.scope_limit(options.false_alarms)
        self._seen: list[Tensor] = []
        self.parts = options.parts and states_uncertainty(task, trust)
        if options.parts and not self.parts:
            self.notes.append(f"{name} states no distribution whose uncertainty has parts")

    @property
    def adds(self) -> bool:
        """Whether there is anything of what is asked for."""
        chooses = self.least_confidence > -math.inf or self.most_strange < math.inf
        return self.sets is not None or chooses or self.parts

    def _check_sets(self, coverage: float) -> None:
        if self.sets is None:
            self.notes.append(
                f"{self.name} has no sets or intervals: they are for tasks of classes, labels, "
                "ordered classes and numbers"
            )
        elif shortage := self.sets.shortage(coverage, self.options.per_class):
            self.notes.append(f"{self.name}: {shortage}")

    def _least_confidence(self) -> float:
        options, selection = self.options, self.trust.selection
        if options.risk is None and options.answered is None:
            return -math.inf
        if selection is None:
            self.notes.append(f"{self.name} abstains from nothing: no row is surer than another")
            return -math.inf
        if options.answered is not None:
            return selection.threshold_of_coverage(options.answered)
        assert options.risk is not None
        try:
            found = selection.threshold_of_risk(options.risk)
        except UsageError as error:
            self.notes.append(f"{self.name}: {error}")
            return -math.inf
        if found == math.inf:
            self.notes.append(
                f"{self.name} answers nothing: its {len(selection.error):,} calibration rows don't "
                f"show a risk as low as {options.risk:g} at any confidence"
            )
        return found

    def add(
        self,
        answers: list[Label],
        output: Tensor,
        calibrated: Tensor,
        outside: Tensor | None = None,
        samples: Sequence[Tensor] | None = None,
    ) -> None:
        """Add to the answers of n rows.

        Args:
            answers: of the rows.
            output: as the head gives it, (n, ...); calibrated: the same, calibrated.
            outside: which rows are out of scope, (n,) bool; None: it can't be said.
            samples: outputs of several models, (n, ...) each; None: nothing is said of parts.
        """
        if self.parts and samples is not None:
            self._add_parts(answers, samples)
        if self.sets is not None:
            assert self.options.coverage is not None
            found = self.sets.answers(calibrated, self.options.coverage, self.options.per_class)
            for answer, own in zip(answers, found, strict=True):
                answer |= own
        if self.options.abstains:
            reasons = self._reasons(output, calibrated, outside)
            for answer, reason in zip(answers, reasons, strict=True):
                answer[ABSTAIN] = reason

    def strangeness(self, output: Tensor, features: Tensor | None) -> Tensor | None:
        """Return how unlike the calibration rows rows are, (n,), and keep it for ``drift``.

        Args:
            output: as the head gives it, (n, ...).
            features: of the encoders, (n, D); None: unknown.
        """
        found = self.trust.scope_of(self.task, output, features)
        if found is not None:
            self._seen.append(found)
        return found

    def _add_parts(self, answers: list[Label], samples: Sequence[Tensor]) -> None:
        found = uncertainty_parts(self.task, self.trust, samples)
        assert found is not None
        values = [getattr(found, name).tolist() for name in PARTS]
        for answer, own in zip(answers, zip(*values, strict=True), strict=True):
            answer |= dict(zip(PARTS, own, strict=True))

    def _reasons(self, output: Tensor, calibrated: Tensor, outside: Tensor | None) -> list[str]:
        count = len(calibrated)
        unsure = torch.zeros(count).bool()
        confidence = self.task.confidence(output, calibrated)
        if confidence is not None:
            unsure = confidence.double().cpu() < self.least_confidence
        if outside is None:
            outside = torch.zeros(count).bool()
        pairs = zip(outside.tolist(), unsure.tolist(), strict=True)
        return [STRANGE if alien else UNSURE if doubtful else "" for alien, doubtful in pairs]

    def drift(self) -> str:
        """Say that the rows so far aren't like the calibration rows; nothing is an empty text."""
        if not self._seen or self.trust.scope_scores is None:
            return ""
        distance = drift_distance(self.trust.scope_scores, torch.cat(self._seen))
        if distance is None:
            return ""
        return (
            f"these rows are unlike those that {self.name} was calibrated on (Kolmogorov-Smirnov "
            f"distance of the {self.trust.scope_name} scores {distance:.2f}): coverage and risk "
            "may not hold; calibrate on labelled rows like these"
        )

    def cell_types(self) -> dict[str, type]:
        """Return {suffix of the task's name: str or float} of the cells that are added."""
        found = {} if self.sets is None else self.sets.cell_types()
        found |= {f"_{name}": float for name in PARTS if self.parts}
        return found | ({f"_{ABSTAIN}": str} if self.options.abstains else {})

    def cells(self, answer: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return what was added to an answer, None for a row without one."""
        found = {} if self.sets is None else self.sets.cells(answer or {})
        found |= {f"_{name}": (answer or {}).get(name) for name in PARTS if self.parts}
        if self.options.abstains:
            found[f"_{ABSTAIN}"] = None if answer is None else answer.get(ABSTAIN)
        return found


def rows_outside(
    asked: Mapping[str, Doubts], strange: Mapping[str, Tensor], scopes: Iterable[RowScope]
) -> dict[str, Tensor]:
    """Return {task: which rows are out of scope, (n,) bool}, each task by itself or together.

    Args:
        asked: {task: what is asked for}.
        strange: {task: how unlike the calibration rows the n rows are, (n,)}.
        scopes: scores of several tasks together; that of most of these tasks is taken.
    """
    found = {task: own > asked[task].most_strange for task, own in strange.items()}
    options = [asked[task].options for task in strange]
    if not any(one.together for one in options):
        return found
    false_alarms = options[0].false_alarms
    assert false_alarms is not None
    known = [one.of(list(strange)) for one in scopes]
    best = max(known, key=lambda one: len(one.tasks), default=None)
    if best is None or len(best.tasks) < 2:
        return found
    outside = best.joined(strange) > best.limit(best.tasks, false_alarms)
    return found | dict.fromkeys(best.tasks, outside)
