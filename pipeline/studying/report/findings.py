"""The sentences after the first: gains, variants, groups, transfers, labels, scores that guess."""

from __future__ import annotations

from pipeline.planning.sizes import scaled
from pipeline.studying.answers import Change, Grouping
from pipeline.studying.report.headline import amount
from pipeline.studying.report.subject import JOINT, Subject
from pipeline.studying.report.units import PERCENT, duration, estimate
from pipeline.words import code, count, listed, verb

MOST = 4  # names in a sentence
ALONE = "alone"  # the point of all tasks' own models
SIZE = "size"  # what the scores begin with that only look at the size of sources


def gains(subject: Subject) -> str:
    """Return what the joint run's tasks gain, and its delta_m."""
    comparison = subject.answers.comparisons.get(JOINT)
    if comparison is None or not comparison.changes:
        return ""
    if subject.is_single:
        found = [
            f"{code(task)} {estimate(change.difference, subject.units[task], sign=True)}"
            for task, change in comparison.changes.items()
        ]
        return f"the joint run against each task alone: {listed(found, 8)}; add seeds for intervals"
    told = [
        f"{code(task)} gains {amount(subject, task, change)}"
        for task, change in comparison.changes.items()
        if change.verdict == "helped"
    ]
    mean = (
        f"on average, the joint run changes a task by {delta(comparison.delta_m)}"
        if comparison.delta_m is not None
        else ""
    )
    return "; ".join(filter(None, (listed(told, 8), mean)))


def delta(change: Change) -> str:
    """Return a delta_m with what is known of its sign."""
    found = estimate(change.difference, PERCENT, sign=True)
    if change.verdict != "unclear":
        return found
    low, high = change.difference.low, change.difference.high
    beyond = low is not None and high is not None and (low > 0 or high < 0)
    # by itself the interval would be sure
    end = " among so many comparisons" if beyond else ""
    return f"{found}, which may be chance{end}"


def variants(subject: Subject) -> str:
    """Return how the best variant compares with the plain joint run."""
    joint = subject.answers.comparisons.get(JOINT)
    means = {
        c.arm: c.delta_m.difference.mean
        for c in subject.compared("joint", "variant")
        if c.delta_m is not None and joint and set(c.changes) == set(joint.changes)
    }
    plain = means.pop(JOINT, None)
    if joint is None or plain is None or not means:
        return ""
    best = max(means, key=means.__getitem__)
    value, own = PERCENT.amount(means[best], sign=True), PERCENT.amount(plain, sign=True)
    if means[best] <= plain:
        return (
            f"no variant has a higher mean than the plain joint run ({own}); the nearest is "
            f"{code(best)} ({value})"
        )
    changes = subject.answers.comparisons[best].changes
    mended = [
        code(task)
        for task, change in joint.changes.items()
        if change.verdict == "hurt" and changes[task].verdict != "hurt"
    ]
    more = f", and no sure loss in {listed(mended)}" if mended else ""
    which = f"of {count(len(means), 'variant')} {code(best)} has the highest mean"
    if len(means) == 1:
        which = f"the variant {code(best)} has a higher mean"
    return (
        f"{which}: {value} on average against {own} of the plain joint run{more}; that difference "
        "itself isn't tested"
    )


def best_grouping(subject: Subject) -> str:
    """Return the best division of the tasks, what it costs, and what one model each costs."""
    groupings = subject.answers.groupings
    if not groupings:
        return ""
    best = max(groupings, key=lambda grouping: (grouping.delta_m, -grouping.models))
    if all(len(group) == 1 for group in best.groups):
        return f"no grouping found that beats each task apart on average ({cost(best)})"
    apart = [point.seconds for point in subject.answers.points if point.arm == ALONE]
    value = PERCENT.amount(best.delta_m, sign=True)
    return (
        f"best grouping: {count(best.models, 'model')} ({groups(best)}): "
        f"{value} on average (not tested) for {cost(best)}"
        + (f" (each task apart takes {duration(apart[0])})" if apart else "")
        + (f"; guessed from pairs, not trained: {predicted(best)}" if best.predicted else "")
    )


def served_by(grouping: Grouping) -> dict[str, list[str]]:
    """Return {arm: the tasks that its model answers}."""
    found: dict[str, list[str]] = {}
    for task, arm in grouping.served.items():
        found.setdefault(arm, []).append(task)
    return found


def groups(grouping: Grouping) -> str:
    """Return which model answers which tasks, unless that is long."""
    if grouping.models > MOST:
        return "the table names them"
    return "; ".join(
        f"{code(arm)} for {listed([code(task) for task in tasks], 12)}"
        for arm, tasks in served_by(grouping).items()
    )


def predicted(grouping: Grouping) -> str:
    """Return the groups that weren't trained."""
    return " | ".join(listed([code(task) for task in group], 12) for group in grouping.predicted)


def cost(grouping: Grouping) -> str:
    """Return ``12 min of training and 1.2 M weights``."""
    time = f"{duration(grouping.seconds)} of training"
    weights = grouping.parameters
    return time if weights is None else f"{time} and {scaled(weights).strip()} weights"


def strong_negatives(subject: Subject) -> str:
    """Return the transfers of which no weight helps."""
    found = [
        f"{code(transfer.source)} to {code(transfer.target)}"
        for transfer in subject.answers.transfers
        if transfer.negative == "strong"
    ]
    told = listed(list(dict.fromkeys(found)), MOST)
    return f"strong negative transfer, at every weight tried: {told}" if found else ""


def best_sources(subject: Subject) -> str:
    """Return each task's best source, of those that surely help."""
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
    return f"sources that help most: {listed(told, MOST)}" if told else ""


def labels_saved(subject: Subject) -> str:
    """Return the tasks that need fewer labels when they share."""
    best: dict[str, tuple[float, str]] = {}
    for saved in subject.answers.saved:
        if saved.beyond == "fewer":
            text = f"{code(saved.task)} needs fewer labels than were tried in {code(saved.arm)}"
            best[saved.task] = (
                0.0,
                f"{text} for what it reaches alone with {saved.of:,} (not tested)",
            )
        if saved.needed is None or not saved.of or saved.needed.mean >= saved.of:
            continue
        share, sure = saved.needed.mean / saved.of, saved.needed.high
        known = "" if sure is not None and sure < saved.of else ", which may be chance"
        text = (
            f"{code(saved.task)} reaches with {saved.needed.mean:,.0f} labels in {code(saved.arm)} "
            f"what it reaches alone with {saved.of:,}{known}"
        )
        if share < best.get(saved.task, (1.0, ""))[0]:
            best[saved.task] = share, text
    return "; ".join(text for _, text in sorted(best.values())[:MOST])


def predictors(subject: Subject) -> str:
    """Return whether a cheap score ranks the measured gains better than size does."""
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
