"""Prompts: what a task that answers in words says to the model of a row, from the row's columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import tokenizers

from datamodules.table import Column, Columns, as_text, combine_columns
from pollinate.errors import UsageError

FIELD = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")
SIDES = ("left", "right")
PROMPT = "prompt/"  # before a task's name: what its prompts are called among rows' inputs


def prompt_input(task: str) -> str:
    """Return what a task's prompts are called among the inputs of rows to be answered."""
    return f"{PROMPT}{task}"


def is_textual(name: str) -> bool:
    """Say whether an input is text: the modality, or a task's prompts."""
    return name == "text" or name.startswith(PROMPT)


def template_parts(template: str) -> list[str | tuple[str]]:
    """Return the parts of a template: texts, and (column,) for each column between braces.

    ``{{`` and ``}}`` stand for braces.

    Raises:
        UsageError: a brace isn't closed or opened, or no column is named.
    """
    parts: list[str | tuple[str]] = []
    end = 0
    for found in FIELD.finditer(template):
        parts.append(template[end : found.start()])
        end = found.end()
        if found[1] is not None:
            parts.append((found[1].strip(),))
        elif found[0] in ("{{", "}}"):
            parts.append(found[0][0])
        else:
            raise UsageError(
                f"prompt has a {found[0]!r} that is no part of a column's name between braces, in "
                f"{template!r:.80}; write {{{{ or }}}} for a brace"
            )
    parts.append(template[end:])
    if not any(isinstance(part, tuple) for part in parts):
        raise UsageError(
            f"prompt must name at least one column between braces, got {template!r:.80}; write "
            '"Question: {question}" for the column question'
        )
    return [part for part in parts if part]


@dataclass(frozen=True)
class Prompt:
    """How a row becomes the text that a language model goes on with.

    template: text with ``{column}``; ``{{`` and ``}}`` are braces.
    system: what the model is told before, where it knows such a role; None: nothing.
    chat: whether the model's own form of a conversation goes round it; None: where it has one.
    max_tokens: of the prompt that are kept, >= 1.
    cut: the side, left or right, that loses tokens of a prompt that is too long.
    max_answer: tokens of an answer, which must find room beside the prompt, >= 1.

    Raises:
        UsageError: the template names no column, or a value is out of range.
    """

    template: str
    system: str | None = None
    chat: bool | None = None
    max_tokens: int = 512
    cut: str = "left"
    max_answer: int = 128
    parts: Sequence[str | tuple[str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.template, str):
            raise UsageError(f"prompt must be a text with {{columns}}, got {self.template!r}")
        object.__setattr__(self, "parts", template_parts(self.template))
        if self.max_tokens < 1:
            raise UsageError(f"max_prompt must be >= 1 token, got {self.max_tokens}")
        if self.cut not in SIDES:
            raise UsageError(f"cut must be left or right, got {self.cut!r}")
        if self.system is not None and self.chat is False:
            raise UsageError("system is said in a conversation only; leave it out, or chat=false")

    @property
    def columns(self) -> list[str]:
        """The columns that the template names, each once."""
        return list(dict.fromkeys(part[0] for part in self.parts if isinstance(part, tuple)))

    @property
    def ends_in_space(self) -> bool:
        """Whether the text before the answer ends in white space, or in a column."""
        last = self.parts[-1]
        return isinstance(last, str) and last[-1:].isspace()

    def cells(self, columns: Columns) -> Column:
        """Return the rows' prompts, None where all of the template's columns are empty."""
        return combine_columns([columns[name] for name in self.columns], self.render)

    def render(self, *cells: Any) -> str | None:
        """Return the text of one row, whose cells are those of ``columns``; None: all are empty."""
        texts = dict(zip(self.columns, map(as_text, cells), strict=True))
        if not any(text.strip() for text in texts.values()):
            return None
        return "".join(part if isinstance(part, str) else texts[part[0]] for part in self.parts)

    def rooms(self, limit: int | None, separate: bool) -> tuple[int, int]:
        """Return how many tokens prompt and answer may have, so that the model can read both.

        Where it can't read as many as wished, an answer gets at most half of what it reads.

        Args:
            limit: tokens that the model reads; None: any number.
            separate: whether prompt and answer are two sequences, each of which may be so long.
        """
        if limit is None:
            return self.max_tokens, self.max_answer
        if separate:
            return min(self.max_tokens, limit), min(self.max_answer, limit)
        most = min(self.max_tokens, limit - min(self.max_answer, limit // 2))
        return most, min(self.max_answer, limit - most)


class TextCodec(Protocol):
    """Turns answers into token ids of a language model, and back."""

    @property
    def core(self) -> tokenizers.Tokenizer:
        """What turns texts into ids, of the package tokenizers."""

    @property
    def end(self) -> int:
        """The id that ends an answer."""

    @property
    def room(self) -> int:
        """Tokens that an answer may have, the end among them."""

    def encode_answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of answers, without the end."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens left out."""
