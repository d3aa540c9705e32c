"""The sentences after the first: gains, variants, groups, transfers, labels, scores that guess."""

from __future__ import annotations

from pipeline.planning.sizes import scaled
from pipeline.studying.answers import Change, Grouping
from pipeline.studying.report.headline import amount
from pipeline.studying.report.subject import JOINT, Subject
from pipeline.studying.report.units import PERCENT, duration, spread
from pipeline.studying.report.words import code, count, listed, verb

MOST = 4  # names in a sentence
SIZE = "size"  # what the scores begin with that only look at the size of sources


def gains(subject: Subject) -> str:
    """Return what the joint run's tasks gain, and its delta_m."""
    comparison = subject.answers.comparisons.get(JOINT)
    if comparison is None or not comparison.changes or subject.is_single:
        return ""
    told = [
        f"{code(task)} gains {amount(subject, task, change)}"
        for task, change in comparison.changes.items()
        if change.verdict == "helped"
    ]
    mean = f"on average, the joint run changes a task by {delta(comparison.delta_m)}"
    return f"{listed(told, 8)}; {mean}" if told else mean


def delta(change: Change) -> str:
    """Return a delta_m with what is known of its sign."""
    found = f"{PERCENT.number(change.relative.mean, sign=True)}{spread(change.relative, PERCENT)} %"
    return found if change.verdict != "unclear" else f"{found}, which may be chance"


def variants(subject: Subject) -> str:
    """Return how the best variant compares with the plain joint run."""
    joint = subject.answers.comparisons.get(JOINT)
    found = [
        c for c in subject.compared("variant") if joint and set(c.changes) == set(joint.changes)
    ]
    if joint is None or not found:
        return ""
    best = max(found, key=lambda comparison: comparison.delta_m.relative.mean)
    value, plain = (PERCENT.amount(c.delta_m.relative.mean, sign=True) for c in (best, joint))
    if best.delta_m.relative.mean <= joint.delta_m.relative.mean:
        return (
            f"no variant has a higher mean than the plain joint run ({plain}); the nearest is "
            f"{code(best.arm)} ({value})"
        )
    mended = [
        code(task)
        for task, change in joint.changes.items()
        if change.verdict == "hurt" and best.changes[task].verdict != "hurt"
    ]
    more = f", and no sure loss in {listed(mended)}" if mended else ""
    return (
        f"of {count(len(found), 'variant')} {code(best.arm)} has the highest mean: {value} on "
        f"average against {plain} of the plain joint run{more}; that difference itself isn't tested"
    )


def best_grouping(subject: Subject) -> str:
    """Return the best division of the tasks, what it costs, and what one model each costs."""
    groupings = subject.answers.groupings
    if not groupings:
        return ""
    best = max(groupings, key=lambda grouping: (grouping.delta_m, -grouping.models))
    apart = [g for g in groupings if all(len(group) == 1 for group in g.groups) and g is not best]
    value = PERCENT.amount(best.delta_m, sign=True)
    return (
        f"best grouping, by means: {count(best.models, 'model')}, {groups(best)}, "
        f"{value} on average for {cost(best)}"
        + (f" (each task apart: {cost(apart[0])})" if apart else "")
        + (f"; guessed from pairs, not trained: {predicted(best)}" if best.predicted else "")
    )


def groups(grouping: Grouping) -> str:
    """Return ``a with b | c alone``."""
    return " | ".join(
        f"{code(group[0])} alone" if len(group) == 1 else listed([code(task) for task in group], 12)
        for group in grouping.groups
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
    return (
        f"strong negative transfer, at every weight tried: {listed(found, MOST)}" if found else ""
    )


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
