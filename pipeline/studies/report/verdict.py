"""What a study says, in words that a manager reads: the headline, then the findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.studies.analysis.estimates import ArmComparison, Change, StudyAnalysis, TaskGrouping
from pipeline.studies.report.report_data import (
    MULTI_TASK,
    PERCENT,
    ReportSubject,
    estimate_text,
    size_text,
)
from pipeline.studies.results import StudyResults
from pipeline.text_format import code, count, duration, format_scaled, listed, sentence, verb

MOST_NAMED = 3  # tasks that are advised on one by one


def headline(subject: ReportSubject) -> str:
    comparison = subject.answers.comparisons.get(MULTI_TASK)
    if not subject.status["finished"]:
        return f"no answer yet: none of {count(len(subject.results.trials), 'run')} has finished"
    if comparison is None or not comparison.changes:
        return without_multi_task(subject)
    so_far = "" if subject.is_done else "so far, "
    if all(change.difference.low is None for change in comparison.changes.values()):
        return so_far + one_seed(comparison)
    return so_far + multi_task_answer(subject, comparison)


def multi_task_answer(subject: ReportSubject, comparison: ArmComparison) -> str:
    changes, total = comparison.changes, len(comparison.changes)
    helped, hurt, unclear = (
        [task for task, change in changes.items() if change.verdict == verdict]
        for verdict in ("helped", "hurt", "unclear")
    )
    every, either = {1: ("the task",) * 2, 2: ("both tasks", "either task")}.get(
        total, (f"all {total} tasks", f"any of {total} tasks")
    )
    if len(unclear) == total:
        return f"no sure difference between multi-task and single-task training in {either}"
    if len(helped) == total:
        return f"sharing helped {every}"
    if len(hurt) == total:
        return f"sharing hurt {every}: {losses(subject, comparison, hurt)}"
    text = f"sharing helped {len(helped) or 'none'} of {count(total, 'task')}"
    if hurt:
        text += f"; {losses(subject, comparison, hurt)}"
    if unclear:
        text += f"; {listed([code(task) for task in unclear])}: no sure difference"
    return text


def losses(subject: ReportSubject, comparison: ArmComparison, hurt: list[str]) -> str:
    told = [
        f"{code(task)} loses {amount(subject, task, comparison.changes[task])}" for task in hurt
    ]
    if len(hurt) > MOST_NAMED:
        return listed(told, MOST_NAMED + 1)
    better = {task: helped_elsewhere(subject, task) for task in hurt}
    apart = [task for task in hurt if better[task] is None]
    if len(apart) == len(hurt):
        return f"{listed(told)}: train {'it' if len(hurt) == 1 else 'them'} single-task"
    advice = [
        f"{code(task)} gains in {code(arm)}" if arm else f"train {code(task)} single-task"
        for task, arm in better.items()
    ]
    return f"{listed(told)}, but {listed(advice)}" if not apart else (
        f"{listed(told)}: {listed(advice)}"
    )  # fmt: skip


def helped_elsewhere(subject: ReportSubject, task: str) -> str | None:
    """Return the arm trained with several tasks that surely helped this one most, if any did."""
    helped = {
        c.arm: c.changes[task].difference.mean
        for c in subject.compared("variant", "group", "pair")
        if task in c.changes and c.changes[task].verdict == "helped"
    }
    return max(helped, key=helped.__getitem__, default=None)


def amount(subject: ReportSubject, task: str, change: Change) -> str:
    return estimate_text(size_text(change.difference), subject.units[task])


def one_seed(comparison: ArmComparison) -> str:
    better = [t for t, change in comparison.changes.items() if change.difference.mean > 0]
    total = len(comparison.changes)
    return (
        f"one seed can't tell help from chance: with sharing, {len(better)} of "
        f"{count(total, 'score')} {verb(1 if total == 1 else len(better), 'is')} higher"
    )


def without_multi_task(subject: ReportSubject) -> str:
    gains = [transfer.gain.verdict for transfer in subject.answers.transfers]
    if gains:
        return (
            f"of {count(len(gains), 'transfer')} between tasks {gains.count('helped')} helped, "
            f"{gains.count('hurt')} hurt, and for {gains.count('unclear')} there is no sure "
            "difference"
        )
    done = [arm.name for arm in subject.arms() if any(subject.results.finished(arm.name))]
    return (
        f"nothing to compare{'' if subject.is_done else ' yet'}: no task has a finished "
        f"single-task run and one of {code(MULTI_TASK)} with the same seed; finished so far: "
        f"{listed([code(name) for name in done])}"
    )


def detectable(subject: ReportSubject) -> str:
    comparison = subject.answers.comparisons.get(MULTI_TASK)
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


MOST_LISTED = 4  # names in a sentence
SINGLE_TASK = "single_task"  # the point of all tasks' own models
SIZE = "size"  # what the scores begin with that only look at the size of sources


def gains(subject: ReportSubject) -> str:
    comparison = subject.answers.comparisons.get(MULTI_TASK)
    if comparison is None or not comparison.changes:
        return ""
    if subject.is_single:
        found = [
            f"{code(task)} {estimate_text(change.difference, subject.units[task], sign=True)}"
            for task, change in comparison.changes.items()
        ]
        each = listed(found, 8)
        return f"the multi-task run against single-task runs: {each}; add seeds for intervals"
    told = [
        f"{code(task)} gains {amount(subject, task, change)}"
        for task, change in comparison.changes.items()
        if change.verdict == "helped"
    ]
    mean = (
        f"on average, the multi-task run changes a task by {delta_m_text(comparison.delta_m)}"
        if comparison.delta_m is not None
        else ""
    )
    return "; ".join(filter(None, (listed(told, 8), mean)))


def delta_m_text(change: Change) -> str:
    found = estimate_text(change.difference, PERCENT, sign=True)
    if change.verdict != "unclear":
        return found
    low, high = change.difference.low, change.difference.high
    beyond = low is not None and high is not None and (low > 0 or high < 0)
    # by itself the interval would be sure
    end = " among so many comparisons" if beyond else ""
    return f"{found}, which may be chance{end}"


def variants(subject: ReportSubject) -> str:
    multi_task = subject.answers.comparisons.get(MULTI_TASK)
    means = {
        c.arm: c.delta_m.difference.mean
        for c in subject.compared("multi_task", "variant")
        if c.delta_m is not None and multi_task and set(c.changes) == set(multi_task.changes)
    }
    plain = means.pop(MULTI_TASK, None)
    if multi_task is None or plain is None or not means:
        return ""
    best = max(means, key=means.__getitem__)
    value, own = PERCENT.amount(means[best], sign=True), PERCENT.amount(plain, sign=True)
    if means[best] <= plain:
        return (
            f"no variant has a higher mean than the plain multi-task run ({own}); the nearest is "
            f"{code(best)} ({value})"
        )
    changes = subject.answers.comparisons[best].changes
    mended = [
        code(task)
        for task, change in multi_task.changes.items()
        if change.verdict == "hurt" and changes[task].verdict != "hurt"
    ]
    more = f", and no sure loss in {listed(mended)}" if mended else ""
    which = f"of {count(len(means), 'variant')} {code(best)} has the highest mean"
    if len(means) == 1:
        which = f"the variant {code(best)} has a higher mean"
    return (
        f"{which}: {value} on average against {own} of the plain multi-task run{more}; that "
        "difference itself isn't tested"
    )


def best_grouping(subject: ReportSubject) -> str:
    groupings = subject.answers.groupings
    if not groupings:
        return ""
    best = max(groupings, key=lambda grouping: (grouping.delta_m, -grouping.models))
    if all(len(group) == 1 for group in best.groups):
        return f"no grouping found that beats single-task training on average ({cost_text(best)})"
    apart = [point.seconds for point in subject.answers.points if point.arm == SINGLE_TASK]
    value = PERCENT.amount(best.delta_m, sign=True)
    untrained = " | ".join(listed([code(task) for task in group], 12) for group in best.predicted)
    return (
        f"best grouping: {count(best.models, 'model')} ({groups_text(best)}): "
        f"{value} on average (not tested) for {cost_text(best)}"
        + (f" (single-task training takes {duration(apart[0])})" if apart else "")
        + (f"; guessed from pairs, not trained: {untrained}" if best.predicted else "")
    )


def served_by(grouping: TaskGrouping) -> dict[str, list[str]]:
    """Return {arm: the tasks that its model answers}."""
    found: dict[str, list[str]] = {}
    for task, arm in grouping.served.items():
        found.setdefault(arm, []).append(task)
    return found


def groups_text(grouping: TaskGrouping) -> str:
    if grouping.models > MOST_LISTED:
        return "the table names them"
    return "; ".join(
        f"{code(arm)} for {listed([code(task) for task in tasks], 12)}"
        for arm, tasks in served_by(grouping).items()
    )


def cost_text(grouping: TaskGrouping) -> str:
    """Return ``12 min of training and 1.2 M weights``."""
    time = f"{duration(grouping.seconds)} of training"
    weights = grouping.parameters
    return time if weights is None else f"{time} and {format_scaled(weights).strip()} weights"


def strong_negatives(subject: ReportSubject) -> str:
    found = [
        f"{code(transfer.source)} to {code(transfer.target)}"
        for transfer in subject.answers.transfers
        if transfer.negative == "strong"
    ]
    told = listed(list(dict.fromkeys(found)), MOST_LISTED)
    return f"strong negative transfer, at every weight tried: {told}" if found else ""


def best_sources(subject: ReportSubject) -> str:
    best: dict[str, tuple[float, str]] = {}
    for transfer in subject.answers.transfers:
        mean = transfer.gain.difference.mean
        if transfer.gain.verdict == "helped" and mean > best.get(transfer.target, (0.0, ""))[0]:
            gain = amount(subject, transfer.target, transfer.gain)
            best[transfer.target] = (
                mean,
                f"{code(transfer.source)} for {code(transfer.target)} ({gain})",
            )
    told = [text for _, text in sorted(best.values(), reverse=True)]
    return f"sources that help most: {listed(told, MOST_LISTED)}" if told else ""


def labels_saved(subject: ReportSubject) -> str:
    best: dict[str, tuple[float, str]] = {}
    for saved in subject.answers.saved:
        if saved.beyond == "fewer":
            text = f"{code(saved.task)} needs fewer labels than were tried in {code(saved.arm)}"
            best[saved.task] = (
                0.0,
                f"{text} for what its single-task run reaches with {saved.of:,} (not tested)",
            )
        if saved.needed is None or not saved.of or saved.needed.mean >= saved.of:
            continue
        share, sure = saved.needed.mean / saved.of, saved.needed.high
        known = "" if sure is not None and sure < saved.of else ", which may be chance"
        text = (
            f"{code(saved.task)} reaches with {saved.needed.mean:,.0f} labels in {code(saved.arm)} "
            f"what its single-task run reaches with {saved.of:,}{known}"
        )
        if share < best.get(saved.task, (1.0, ""))[0]:
            best[saved.task] = share, text
    return "; ".join(text for _, text in sorted(best.values())[:MOST_LISTED])


def predictors(subject: ReportSubject) -> str:
    taus = {n: a.tau for n, a in subject.answers.agreement.items() if a.tau is not None}
    sizes = [tau for name, tau in taus.items() if name.startswith(SIZE)]
    guesses = {name: tau for name, tau in taus.items() if not name.startswith(SIZE)}
    if not guesses:
        return ""
    best = max(guesses, key=guesses.__getitem__)
    against = f", size alone {max(sizes):.2f}" if sizes else ""
    if guesses[best] <= max([0.0, *sizes]):
        return (
            f"no score that guesses gains without training ranks them better than "
            f"{'size alone' if sizes else 'chance'} (best: {code(best)}, tau "
            f"{guesses[best]:.2f}{against})"
        )
    found = subject.answers.agreement[best]
    known = "" if found.p is None or found.p <= 0.05 else ", which may be chance"
    return (
        f"of {count(len(guesses), 'score')} that {verb(len(guesses), 'guesses')} gains without "
        f"training, {code(best)} ranks them best (tau {guesses[best]:.2f}{against}{known})"
    )


Finding = Callable[[ReportSubject], str]
FINDINGS: tuple[Finding, ...] = (
    gains, detectable, variants, best_grouping, strong_negatives, best_sources,
    labels_saved, predictors,
)  # fmt: skip
NAMED = 3  # trials that failed


def verdict(results: StudyResults, answers: StudyAnalysis) -> list[str]:
    """Return sentences, the most important first; names stand in backticks.

    Helped, hurt and loses are said of changes whose ``Change.verdict`` says so; other differences
    are called means, and what isn't tested is called so.
    """
    subject = ReportSubject(results, answers)
    lines = [headline(subject)]
    lines += filter(None, (finding(subject) for finding in FINDINGS))
    return [*map(sentence, lines), *map(sentence, state(subject))]


def state(subject: ReportSubject) -> Iterator[str]:
    waiting, running = subject.status["waiting"], subject.status["running"]
    if waiting or running:
        yield (
            f"the study isn't done: {count(running, 'run')} at work, {waiting:,} to come; "
            "all of this may change"
        )
    for status, what in (("failed", "failed"), ("timeout", "took too long")):
        lost = [trial for trial in subject.lost if trial.status == status]
        if lost:
            names = [f"{code(trial.arm)} with seed {trial.seed}" for trial in lost]
            yield (
                f"{count(len(lost), 'run')} {what} and {verb(len(lost), 'is')} left out: "
                f"{listed(names, NAMED)}"
            )
