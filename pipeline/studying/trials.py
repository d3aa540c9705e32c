"""The trials of a plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.errors import PollinateError
from pipeline.studying.budget import seconds
from pipeline.studying.job import FitJob, Setting
from pipeline.studying.plan import Plan, trial_place
from pipeline.studying.results import Arm
from pipeline.studying.search import best_file, best_values, last_of
from pipeline.studying.source import from_source, source_of


@dataclass
class Trial(FitJob):
    """One run of an arm.

    plan: of the study; arm: that is run.
    """

    plan: Plan | None = field(default=None, repr=False)
    arm: Arm | None = None

    def prepare(self) -> None:
        """Check that a search found something."""
        super().prepare()
        assert self.plan is not None and self.arm is not None, "made by trials_of"
        if self.plan.search and not best_file(self.setting.folder, self.arm.name).exists():
            raise PollinateError("all trials of its search have failed")

    def values(self) -> list[str]:
        """Return what the arm's search found best."""
        assert self.plan is not None and self.arm is not None, "made by trials_of"
        return best_values(self.setting.folder, self.arm.name) if self.plan.search else []


def trials_of(plan: Plan, setting: Setting) -> Iterator[Trial]:
    """Yield the trials: all arms of a seed, the longest first, then those of the next.

    Where several run at a time, short ones at the end leave none to run long by itself.
    """
    for seed in plan.seeds:
        trials = [trial_of(plan, setting, arm, seed) for arm in plan.arms.values()]
        yield from sorted(trials, key=lambda trial: -(trial.expected or 0.0))


def trial_of(plan: Plan, setting: Setting, arm: Arm, seed: int) -> Trial:
    """Return one trial."""
    source = source_of(setting.folder, arm, seed)
    needs = [] if source is None else [source]
    if plan.search is not None:
        needs.append(last_of(plan, setting.folder, arm))
    return Trial(
        title=f"{arm.name}, seed {seed}",
        place=trial_place(setting.folder, arm.name, seed),
        setting=setting,
        needs=needs,
        expected=seconds(arm, plan.facts, plan.budget),
        steps=plan.facts.steps,
        base=plan.base,
        own=[*arm.overrides, *from_source(plan, arm, source), f"seed={seed}"],
        plan=plan,
        arm=arm,
    )
