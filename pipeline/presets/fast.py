"""The preset that trains from scratch, in minutes on a CPU."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.presets.choice import Choice
from pipeline.presets.facts import DataFacts, MachineFacts, TextFacts

CHARACTERS = 4.0  # of a token, in scripts with spaces
STEP = 16  # tokens by which lengths are rounded up
MOST_TOKENS = 256


def fast(data: DataFacts, machine: MachineFacts, packages: frozenset[str]) -> Iterator[Choice]:
    """Yield what is chosen."""
    if data.text is not None:
        yield from text_choices(data, data.text)


def text_choices(data: DataFacts, text: TextFacts) -> Iterator[Choice]:
    yield Choice(
        {"data.text.wide": True},
        "a linear model of words and characters beside the encoder; it is hard to beat on few texts",
    )
    if any(task.words for task in data.tasks.values()):
        yield Choice({"encoder/text": "gru"}, "a task labels words, which need their neighbours")
    length = token_length(text)
    yield Choice(
        {"data.text.max_length": length}, f"19 of 20 texts have at most {text.most} letters"
    )


def token_length(text: TextFacts) -> int:
    tokens = text.most if text.unspaced else text.most / CHARACTERS
    return min(MOST_TOKENS, STEP * (1 + int(tokens) // STEP) + STEP)
