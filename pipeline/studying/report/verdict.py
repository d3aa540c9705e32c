"""What a study says, in words that a manager reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.studying.answers import Answers
from pipeline.studying.report.findings import (
    best_grouping,
    best_sources,
    gains,
    labels_saved,
    predictors,
    strong_negatives,
    variants,
)
from pipeline.studying.report.headline import headline, least
from pipeline.studying.report.subject import Subject
from pipeline.studying.results import Results
from pipeline.words import code, count, listed, sentence, verb

Finding = Callable[[Subject], str]
FINDINGS: tuple[Finding, ...] = (
    gains, least, variants, best_grouping, strong_negatives, best_sources, labels_saved, predictors,
)  # fmt: skip
NAMED = 3  # trials that failed


def verdict(results: Results, answers: Answers) -> list[str]:
    """Return sentences, the most important first; names stand in backticks.

    Helped, hurt and loses are said of changes whose ``Change.verdict`` says so; other differences
    are called means, and what isn't tested is called so.
    """
    subject = Subject(results, answers)
    lines = [headline(subject)]
    lines += filter(None, (finding(subject) for finding in FINDINGS))
    return [*map(sentence, lines), *map(sentence, state(subject))]


def state(subject: Subject) -> Iterator[str]:
    """Yield what the study lacks."""
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
