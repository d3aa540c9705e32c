"""More rows for tasks that lag behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datamodules.samplers.base import Sampler, Shares, normalize_shares, temperature_shares
from pollinate.errors import UsageError
from pollinate.suggest import hint


class Adaptive(Sampler):
    """Shares follow the validation scores: w_t = 1 / (min(1, s_t / b_t)^a + e).

    s_t is task t's latest score; b_t the score that is aimed at, or the best so far. A data set's
    share is n_d^(1/T) times the mean w_t of its tasks, moved from the last share by the part r.
    Source: Jean, Firat & Johnson 2019, "Adaptive scheduling for multi-task learning", explicit
    schedules, section 3.1, where b_t is a single-task score; the move r is an addition.

    Args:
        batch_size: rows a step over all data sets and devices.
        steps_per_epoch: steps of one epoch; None: all rows / batch_size, rounded up.
        bucket: steps whose rows are sorted by length before they are dealt out.
        temperature: T, > 0.
        targets: {task: b_t}; a task that is left out has its best score so far.
        sharpness: a, > 0; larger reacts to smaller lags.
        floor: e, > 0; the largest w is 1 / e, that of a task without lag 1 / (1 + e).
        rate: r, in (0, 1].

    Examples:
        >>> import pollinate as po
        >>> sampler = po.samplers.Adaptive(batch_size=20, targets={"mood": 0.9, "object": 0.9})
        >>> sampler.bind({"reviews": ["mood"], "photos": ["object"]})
        >>> sampler.counts({"reviews": 500, "photos": 500})
        {'reviews': 10, 'photos': 10}
        >>> sampler.observe({"mood": 0.9, "object": 0.5})  # object lags behind
        >>> sampler.counts({"reviews": 500, "photos": 500})
        {'reviews': 7, 'photos': 13}
    """

    def __init__(
        self,
        batch_size: int = 128,
        steps_per_epoch: int | None = None,
        bucket: int = 1,
        temperature: float = 2.0,
        targets: Mapping[str, float] | None = None,
        sharpness: float = 8.0,
        floor: float = 0.5,
        rate: float = 0.5,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, bucket)
        for name, value in (
            ("temperature", temperature),
            ("sharpness", sharpness),
            ("floor", floor),
        ):
            if not value > 0:
                raise UsageError(f"sampler.{name} must be > 0, got {value}")
        if not 0 < rate <= 1:
            raise UsageError(f"sampler.rate must be in (0, 1], got {rate}")
        self.temperature = temperature
        self.targets = dict(targets or {})
        self.sharpness = sharpness
        self.floor = floor
        self.rate = rate
        self.tasks: dict[str, list[str]] = {}
        self.best: dict[str, float] = {}
        self.factors: dict[str, float] = {}  # by task, w_t smoothed over the epochs

    def bind(self, tasks: Mapping[str, Sequence[str]]) -> None:
        """Remember which tasks a data set has.

        Raises:
            UsageError: a target is for no task.
        """
        self.tasks = {name: list(own) for name, own in tasks.items()}
        known = [task for own in self.tasks.values() for task in own]
        for task in self.targets:
            if task not in known:
                raise UsageError(f"sampler.targets has {task!r}{hint(task, known, 'tasks')}")

    def observe(self, scores: Mapping[str, float]) -> None:
        """Move each task's factor towards the one of its latest score."""
        for task, score in scores.items():
            if score != score:  # not defined yet
                continue
            self.best[task] = max(score, self.best.get(task, score))
            aim = self.targets.get(task, self.best[task])
            wanted = self.factor(score, aim)
            self.factors[task] = (1 - self.rate) * self._last(task) + self.rate * wanted

    def factor(self, score: float, aim: float) -> float:
        """Return w = 1 / (min(1, s / b)^a + e); a score that isn't positive lags entirely."""
        reached = 1.0 if score >= aim else max(score, 0.0) / aim if aim > 0 else 0.0
        return float(1 / (reached**self.sharpness + self.floor))

    def shares(self, sizes: Mapping[str, int], epoch: int) -> Shares:
        """Return the temperature's shares times the factors of the data sets' tasks."""
        base = normalize_shares(temperature_shares(sizes, self.temperature))
        return {name: share * self._mean(self.tasks.get(name, [])) for name, share in base.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the best scores and the factors."""
        return {"best": dict(self.best), "factors": dict(self.factors)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with these."""
        self.best, self.factors = dict(state["best"]), dict(state["factors"])

    def _last(self, task: str) -> float:
        return self.factors.get(task, self.factor(1.0, 1.0))

    def _mean(self, tasks: Sequence[str]) -> float:
        return sum(map(self._last, tasks)) / len(tasks) if tasks else self.factor(1.0, 1.0)
