"""Search over keys by Optuna: each arm with as many trials, on validation scores alone.

An arm's search trials follow each other, so that each draw depends on what was told before and on
nothing else: neither on how many run at a time, nor on an interruption. Other arms run beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any
from zlib import crc32

from pipeline.configuration.study_rules import flat_keys
from pipeline.studies.jobs import ArmJob, JobContext, arm_options
from pipeline.studies.plan import StudyPlan, search_files
from pipeline.studies.trial_files import (
    TrialFiles,
    TrialLedger,
    is_score,
    safe_name,
)
from pollinate.errors import PollinateError
from pollinate.files import write_json
from pollinate.overrides import override
from pollinate.requirements import require

TRIALS = 10  # of each arm, where the configuration says nothing
SEED = 1000  # first one tried: the study's own seeds are usually small
BEST = "best.json"
DATABASE = "search.db"
VALUES, NUMBER = "values", "number"  # in a trial's ledger


def require_optuna(search: Mapping[str, Any] | None) -> None:
    """Check that Optuna is there where it is needed, without importing it."""
    if search is not None:
        require("optuna", "study")


def search_seed(plan: StudyPlan) -> int:
    """Return the seed of all search trials, which is none of the study's."""
    return next(seed for seed in range(SEED, SEED + len(plan.seeds) + 1) if seed not in plan.seeds)


def trials_each(plan: StudyPlan) -> int:
    return int((plan.search or {}).get("trials", TRIALS))


def best_file(folder: Path, arm: str) -> Path:
    return folder / "search" / safe_name(arm) / BEST


def as_overrides(values: Mapping[str, Any]) -> list[str]:
    """Return {key: value} as a command line says it."""
    return [override(key, value) for key, value in values.items()]


@dataclass(kw_only=True)
class SearchTrial(ArmJob):
    """One draw of values for an arm and the run with them; number: of the trial, from 0."""

    number: int

    def is_finished(self) -> bool:
        """Say whether it is run, or has failed for good: the search goes on without it."""
        ledger = self.ledger()
        given_up = bool(ledger.sessions) and ledger.status in ("failed", "timeout")
        return self.files.is_finished() or given_up

    def values(self) -> list[str]:
        return as_overrides(self.ledger().extra.get(VALUES, {}))

    def prepare(self) -> None:
        super().prepare()
        ledger = self.ledger()
        if VALUES not in ledger.extra:
            study = self._study()
            self._tell(study)
            asked = study.ask(distributions((self.plan.search or {})["keys"]))
            ledger.extra |= {VALUES: asked.params, NUMBER: asked.number}
            ledger.save()

    def wrap_up(self) -> None:
        file = best_file(self.context.folder, self.arm.name)
        if self.number < trials_each(self.plan) - 1 or file.exists():
            return
        self._tell(self._study())
        scored = {n: score for n in range(self.number + 1) if (score := self._score(n)) is not None}
        if not scored:
            return
        best = max(scored, key=lambda n: (scored[n], -n))
        content = {
            "trial": best,
            "score": scored[best],
            VALUES: TrialLedger(self._files(best)).extra[VALUES],
            "scores": scored,
        }
        write_json(file, content)

    def _files(self, number: int) -> TrialFiles:
        return search_files(self.context.folder, self.arm.name, number)

    def _score(self, number: int) -> float | None:
        valid = self._files(number).summary().get("valid", {})
        facts = self.plan.facts.tasks
        scores = [valid.get(task, {}).get(facts[task].metric) for task in self.arm.tasks]
        return fmean(scores) if all(map(is_score, scores)) else None

    def _study(self) -> Any:
        import optuna  # optional, and a second

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = crc32(f"{search_seed(self.plan)}/{self.arm.name}/{self.number}".encode())
        try:
            return optuna.create_study(
                storage=storage_url(self.plan.search or {}, self.context.folder),
                sampler=optuna.samplers.TPESampler(seed=seed),
                study_name=f"{self.plan.name}/{self.arm.name}",
                direction="maximize",
                load_if_exists=True,
            )
        except Exception as error:
            reason = " ".join(str(error).split())
            raise PollinateError(
                f"study.search.storage can't be opened: {reason}; set another, or null for a file "
                "in the study's folder"
            ) from error

    def _tell(self, study: Any) -> None:
        import optuna

        waiting = {trial.number for trial in study.trials if not trial.state.is_finished()}
        for number in range(self.number + 1):
            drawn = TrialLedger(self._files(number)).extra.get(NUMBER)
            if drawn in waiting and (self._files(number).summary() or number < self.number):
                score = self._score(number)
                state = optuna.trial.TrialState.FAIL if score is None else None
                study.tell(drawn, score, state=state)


def storage_url(search: Mapping[str, Any], folder: Path) -> str:
    """Return Optuna's storage: what is configured, or a file in the study's folder."""
    return str(search.get("storage") or f"sqlite:///{(folder / DATABASE).absolute()}")


def distributions(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return Optuna's distributions of {key: choices, or {low, high, log, step}}."""
    from optuna import distributions as kinds

    found: dict[str, Any] = {}
    for key, values in flat_keys(keys).items():
        if isinstance(values, list):
            found[key] = kinds.CategoricalDistribution(values)
            continue
        low, high, log = values["low"], values["high"], bool(values.get("log"))
        step = values.get("step")
        if isinstance(low, int) and isinstance(high, int):
            found[key] = kinds.IntDistribution(low, high, log=log, step=step or 1)
        else:
            found[key] = kinds.FloatDistribution(low, high, log=log, step=step)
    return found


def searches_of(plan: StudyPlan, context: JobContext) -> Iterator[SearchTrial]:
    """Yield all search trials, the first of each arm first."""
    if plan.search is None:
        return
    for number in range(trials_each(plan)):
        for arm in plan.arms.values():
            # the source of the study's first seed: it was chosen without looking at this task
            options = arm_options(plan, context, arm, search_seed(plan), plan.seeds[0])
            if number:
                options["needs"].append(search_files(context.folder, arm.name, number - 1))
            yield SearchTrial(
                title=f"{arm.name}, search {number + 1}",
                files=search_files(context.folder, arm.name, number),
                number=number,
                **options,
            )
