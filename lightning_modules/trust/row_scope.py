"""Whether a row is out of scope, by what all tasks that read it make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_modules.calibration.base import FEWEST
from lightning_modules.tasks.base import Task
from lightning_modules.trust.task_trust import AnsweredRows, TaskTrust, scope_folds, scope_rows

LEAST = 1e-6  # of a standard deviation


@dataclass(frozen=True)
class RowScope:
    """sum_t (s_t - mean s_t) / std s_t: one score of a row out of scope from its tasks' s_t.

    The sum has less chance in it than each task's score. Means, standard deviations and the
    threshold are those of rows that each task was calibrated on and no score was fitted to.

    Attributes:
        tasks: T names.
        scores: (n, T), of these rows.

    Examples:
        >>> import torch
        >>> from lightning_modules.trust.row_scope import RowScope
        >>> scope = RowScope(("mood", "topic"), torch.randn(100, 2))
        >>> usual_and_strange = torch.tensor([0.0, 3.0])
        >>> new = scope.joined({"mood": usual_and_strange, "topic": usual_and_strange})
        >>> new > scope.limit(["mood", "topic"], false_alarms=0.05)
        tensor([False,  True])
    """

    tasks: tuple[str, ...]
    scores: Tensor

    def of(self, tasks: Sequence[str]) -> RowScope:
        """Return the same of some of its tasks alone."""
        kept = [place for place, name in enumerate(self.tasks) if name in tasks]
        return RowScope(tuple(self.tasks[place] for place in kept), self.scores[:, kept])

    def joined(self, scores: Mapping[str, Tensor]) -> Tensor:
        """Return the score (m,) of new rows from {task: its own (m,)}, of all or some tasks."""
        own = self.of(list(scores))
        return own._sum(torch.stack([scores[name].float().cpu() for name in own.tasks], dim=1))

    def limit(self, tasks: Sequence[str], false_alarms: float) -> float:
        """Return the score of these tasks above which a row is out of scope.

        Args:
            tasks: of whose scores it is.
            false_alarms: share of usual rows that are above, too.
        """
        own = self.of(tasks)
        found = own._sum(own.scores).quantile(1 - false_alarms, interpolation="higher")
        return found.item()

    def _sum(self, scores: Tensor) -> Tensor:
        spread = self.scores.std(dim=0).clamp(min=LEAST)
        return ((scores - self.scores.mean(dim=0)) / spread).sum(dim=1)

    def state(self) -> dict[str, Any]:
        """Return it as plain values and tensors."""
        return {"tasks": list(self.tasks), "scores": self.scores}


def row_scopes(
    tasks: Mapping[str, Task], trust: Mapping[str, TaskTrust], rows: Mapping[str, AnsweredRows]
) -> dict[str, RowScope]:
    """Return {data set: the score of its rows}, of data sets whose rows several tasks scored.

    Args:
        tasks: {name: task}; trust: {name: what was fitted to its rows}.
        rows: {name: calibration rows}.
    """
    scored = {name: rows[name] for name, own in trust.items() if own.scope is not None}
    datasets = dict.fromkeys(name for own in scored.values() for name in own.numbers or ())
    found = {}
    for dataset in datasets:
        own = {
            name: scores
            for name, part in scored.items()
            if (scores := _scores_of(tasks[name], trust[name], part, dataset))
        }
        shared = sorted(set.intersection(*(set(scores) for scores in own.values())) if own else ())
        if len(own) > 1 and len(shared) >= FEWEST:
            columns = [[scores[number] for number in shared] for scores in own.values()]
            found[dataset] = RowScope(tuple(own), torch.tensor(columns).T.contiguous())
    return found


def _scores_of(task: Task, trust: TaskTrust, rows: AnsweredRows, dataset: str) -> dict[int, float]:
    """Return {number of a row of a data set: its score}, of rows the score wasn't fitted to."""
    assert trust.scope is not None
    numbers, start = rows.numbers or {}, 0
    for name, own in numbers.items():
        if name == dataset:
            break
        start += len(own)
    if dataset not in numbers:
        return {}
    place = torch.arange(start, start + len(numbers[dataset]))
    if trust.scope.numbers:  # else nothing was fitted
        place = place[scope_folds(rows)[place] == 0]
    found = trust.scope(scope_rows(task, rows.output, rows.features)[place])
    chosen = numbers[dataset][place - start]
    return dict(zip(chosen.tolist(), found.tolist(), strict=True))
