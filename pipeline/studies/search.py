"""Search over keys by Optuna: each arm with as many trials, on validation scores alone.

An arm's search trials follow each other, so that each draw depends on what was told before and on
nothing else: neither on how many run at a time, nor on an interruption. Other arms run beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any
from zlib import crc32

from pipeline.configuration.study_rules import flat_keys
from pipeline.studies.arms import expected_seconds
from pipeline.studies.jobs import FitJob, JobContext, source_files, source_overrides
from pipeline.studies.plan import StudyPlan, search_files
from pipeline.studies.results import Arm
from pipeline.studies.trial_files import (
    TrialFiles,
    TrialLedger,
    is_score,
    read_json,
    safe_name,
    write_json,
)
from pollinate.errors import PollinateError
from pollinate.requirements import require
from pollinate.suggest import shown

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
    """Return the number of search trials of each arm."""
    return int((plan.search or {}).get("trials", TRIALS))


def last_of(plan: StudyPlan, folder: Path, arm: Arm) -> TrialFiles:
    """Return the place of an arm's last search trial."""
    return search_files(folder, arm.name, trials_each(plan) - 1)


def best_file(folder: Path, arm: str) -> Path:
    """Return where an arm's best values are kept."""
    return folder / "search" / safe_name(arm) / BEST


def best_values(folder: Path, arm: str) -> list[str]:
    """Return the overrides that an arm's search found best, none as long as it hasn't."""
    known = read_json(best_file(folder, arm)) or {}
    return as_overrides(known.get(VALUES, {}))


def as_overrides(values: Mapping[str, Any]) -> list[str]:
    """Return {key: value} as a command line says it."""
    return [
        f"{key}={value if isinstance(value, str) else shown(value)}"
        for key, value in values.items()
    ]


@dataclass
class SearchTrial(FitJob):
    """One draw of values and the run with them.

    plan: of the study; arm: whose search; number: of the trial, from 0.
    """

    plan: StudyPlan | None = field(default=None, repr=False)
    arm: Arm | None = None
    number: int = 0

    def is_finished(self) -> bool:
        """Say whether it is run, or has failed for good: the search goes on without it."""
        ledger = self.ledger()
        given_up = bool(ledger.sessions) and ledger.status in ("failed", "timeout")
        return self.files.is_finished() or given_up

    def values(self) -> list[str]:
        """Return the values that were drawn."""
        return as_overrides(self.ledger().extra.get(VALUES, {}))

    def prepare(self) -> None:
        """Draw values, unless that was done."""
        super().prepare()
        ledger = self.ledger()
        if VALUES not in ledger.extra:
            study = self._study()
            self._tell(study)
            assert self.plan is not None and self.plan.search is not None, "made by searches_of"
            asked = study.ask(distributions(self.plan.search["keys"]))
            ledger.extra |= {VALUES: asked.params, NUMBER: asked.number}
            ledger.save()

    def wrap_up(self) -> None:
        """After the last trial, keep the best values."""
        assert self.plan is not None and self.arm is not None, "made by searches_of"
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
        assert self.arm is not None, "made by searches_of"
        return search_files(self.context.folder, self.arm.name, number)

    def _score(self, number: int) -> float | None:
        """Return the mean validation score of a trial's tasks, None if it has none."""
        assert self.plan is not None and self.arm is not None, "made by searches_of"
        valid = self._files(number).summary().get("valid", {})
        facts = self.plan.facts.tasks
        scores = [valid.get(task, {}).get(facts[task].metric) for task in self.arm.tasks]
        return fmean(scores) if all(map(is_score, scores)) else None

    def _study(self) -> Any:
        """Return Optuna's study of the arm, whose next draw is settled by what it was told."""
        import optuna  # optional, and a second

        assert self.plan is not None and self.arm is not None and self.plan.search is not None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = crc32(f"{search_seed(self.plan)}/{self.arm.name}/{self.number}".encode())
        try:
            return optuna.create_study(
                storage=storage_url(self.plan.search, self.context.folder),
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
        """Tell Optuna what earlier trials reached, where it hasn't been told."""
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
    seed = search_seed(plan)
    for number in range(trials_each(plan)):
        for arm in plan.arms.values():
            # the source of the study's first seed: it was chosen without looking at this task
            source = source_files(context.folder, arm, plan.seeds[0])
            needs = [] if source is None else [source]
            needs += [search_files(context.folder, arm.name, number - 1)] if number else []
            yield SearchTrial(
                title=f"{arm.name}, search {number + 1}",
                files=search_files(context.folder, arm.name, number),
                context=context,
                needs=needs,
                expected=expected_seconds(arm, plan.facts, plan.budget),
                steps=plan.facts.steps,
                base=plan.base,
                own=[*arm.overrides, *source_overrides(plan, arm, source), f"seed={seed}"],
                plan=plan,
                arm=arm,
                number=number,
            )
