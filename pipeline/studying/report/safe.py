"""A study without passwords, for what is shown to others."""

from __future__ import annotations

import re
from dataclasses import replace

from pipeline.studying.results import Results
from pipeline.tracking.redact import redact_arguments, redact_text

WORD = re.compile(r"\S+")


def safe_text(text: str) -> str:
    """Return a message whose addresses and ``key=value`` hide their secrets."""
    return WORD.sub(lambda word: redact_arguments([word[0]])[0], redact_text(text))


def safe(results: Results) -> Results:
    """Return a copy in which commands, overrides and messages are redacted."""
    arms = {
        name: replace(arm, overrides=tuple(redact_arguments(arm.overrides)))
        for name, arm in results.arms.items()
    }
    trials = [
        replace(
            trial,
            command=redact_arguments(trial.command),
            message=None if trial.message is None else safe_text(trial.message),
        )
        for trial in results.trials
    ]
    return replace(results, arms=arms, trials=trials, notes=[*map(safe_text, results.notes)])
