"""The first sentence: did sharing help?"""

from __future__ import annotations

from pipeline.studying.answers import Change, Comparison
from pipeline.studying.report.subject import JOINT, Subject
from pipeline.studying.report.units import estimate, size
from pipeline.words import code, count, listed, verb

MOST = 3  # tasks that are advised on one by one


def headline(subject: Subject) -> str:
    """Return the first sentence."""
    comparison = subject.answers.comparisons.get(JOINT)
    if not subject.status["finished"]:
        return f"no answer yet: none of {count(len(subject.results.trials), 'run')} has finished"
    if comparison is None or not comparison.changes:
        return without_joint(subject)
    so_far = "" if subject.is_done else "so far, "
    if all(change.difference.low is None for change in comparison.changes.values()):
        return so_far + one_seed(comparison)
    return so_far + answer(subject, comparison)


def answer(subject: Subject, comparison: Comparison) -> str:
    """Return how many tasks the joint run helped, which it hurt, and which are open."""
    changes, total = comparison.changes, len(comparison.changes)
    helped, hurt, unclear = (
        [task for task, change in changes.items() if change.verdict == verdict]
        for verdict in ("helped", "hurt", "unclear")
    )
    if len(unclear) == total:
        return f"no sure difference between sharing and training apart in {any_of(total)}"
    if len(helped) == total:
        return f"sharing helped {all_of(total)}"
    if len(hurt) == total:
        return f"sharing hurt {all_of(total)}: {losses(subject, comparison, hurt)}"
    text = f"sharing helped {len(helped) or 'none'} of {count(total, 'task')}"
    if hurt:
        text += f"; {losses(subject, comparison, hurt)}"
    if unclear:
        text += f"; {listed([code(task) for task in unclear])}: no sure difference"
    return text


def all_of(total: int) -> str:
    """Return ``all 4 tasks``."""
    return f"all {total} tasks" if total > 2 else "both tasks" if total == 2 else "the task"


def any_of(total: int) -> str:
    """Return ``any of 4 tasks``."""
    return f"any of {total} tasks" if total > 2 else "either task" if total == 2 else "the task"


def losses(subject: Subject, comparison: Comparison, hurt: list[str]) -> str:
    """Return what tasks lose and what to do about it."""
    told = [
        f"{code(task)} loses {amount(subject, task, comparison.changes[task])}" for task in hurt
    ]
    if len(hurt) > MOST:
        return listed(told, MOST + 1)
    better = {task: helped_elsewhere(subject, task) for task in hurt}
    apart = [task for task in hurt if better[task] is None]
    if len(apart) == len(hurt):
        return f"{listed(told)}: train {'it' if len(hurt) == 1 else 'them'} apart"
    advice = [
        f"{code(task)} gains in {code(arm)}" if arm else f"train {code(task)} apart"
        for task, arm in better.items()
    ]
    return f"{listed(told)}, but {listed(advice)}" if not apart else (
        f"{listed(told)}: {listed(advice)}"
    )  # fmt: skip


def helped_elsewhere(subject: Subject, task: str) -> str | None:
    """Return the arm trained with several tasks that surely helped this one most, if any did."""
    helped = {
        c.arm: c.changes[task].difference.mean
        for c in subject.compared("variant", "group", "pair")
        if task in c.changes and c.changes[task].verdict == "helped"
    }
    return max(helped, key=helped.__getitem__, default=None)


def amount(subject: Subject, task: str, change: Change) -> str:
    """Return a change without its sign: ``1.2 ± 0.4 points``."""
    return estimate(size(change.difference), subject.units[task])


def one_seed(comparison: Comparison) -> str:
    """Return what a single seed can't say."""
    better = [t for t, change in comparison.changes.items() if change.difference.mean > 0]
    total = len(comparison.changes)
    return (
        f"one seed can't tell help from chance: with sharing, {len(better)} of "
        f"{count(total, 'score')} {verb(1 if total == 1 else len(better), 'is')} higher"
    )


def without_joint(subject: Subject) -> str:
    """Return the first sentence where there is no joint run to compare."""
    gains = [transfer.gain.verdict for transfer in subject.answers.transfers]
    if gains:
        return (
            f"of {count(len(gains), 'transfer')} between tasks {gains.count('helped')} helped, "
            f"{gains.count('hurt')} hurt, and for {gains.count('unclear')} there is no sure "
            "difference"
        )
    done = [arm.name for arm in subject.arms() if any(subject.results.finished(arm.name))]
    return (
        f"nothing to compare{'' if subject.is_done else ' yet'}: no task has a finished run alone "
        f"and one of {code(JOINT)} with the same seed; finished so far: "
        f"{listed([code(name) for name in done])}"
    )


def least(subject: Subject) -> str:
    """Return what these seeds could have shown, where something is open."""
    comparison = subject.answers.comparisons.get(JOINT)
    if comparison is None:
        return ""
    every = {
        task: least
        for task, change in comparison.changes.items()
        if change.verdict == "unclear" and (least := subject.answers.least.get(task)) is not None
    }
    units = subject.units
    number = max((c.difference.seeds for c in comparison.changes.values()), default=0)
    if not every or number < 2:
        return ""
    seeds = count(number, "seed")
    known = {task: least for task, least in every.items() if units[task].within(least) == least}
    told = [f"{units[task].amount(least)} in {code(task)}" for task, least in known.items()]
    lost = [code(task) for task in every if task not in known]
    parts = [
        f"{seeds} would have shown, four times out of five, a change of {listed(told)}; a smaller "
        "one needs more seeds"
        if told
        else "",
        f"{seeds} can't show any change in {listed(lost)}: run more" if lost else "",
    ]
    return "; ".join(filter(None, parts))
