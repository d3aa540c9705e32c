"""Prompts of a task as token ids, and its answers as ids and back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from typing import Any

import numpy as np

from datamodules.arrays import Arrays
from datamodules.modalities.base import InputStore, Modality
from datamodules.modalities.text import (
    TextModality,
    TextStore,
    TokenDropout,
    has_text,
    text_problem,
)
from datamodules.modalities.tokenization import SEPARATOR_ID, padding_shift, read_tokenizer
from datamodules.progress_bar import track
from datamodules.prompts import Prompt
from datamodules.table import Column
from pollinate.errors import UsageError

DECIDING = ("normalizer", "pre_tokenizer", "model", "added_tokens")  # parts of tokenizer.json
CHUNK = 4096  # prompts that are tokenised at a time
UNKNOWN = "\ue000"  # a private character, which no tokenizer has learnt
WORTH_SAYING = 0.01  # share of prompts that were cut, below which nothing is said of it


class PromptModality(Modality):
    """Puts a task's prompts into the model's form and tokenises them.

    Ids are one more than the model's where its padding isn't id 0, as those of other texts are.

    Args:
        prompt: of the task.
        text: how the run turns texts into tokens; it has learnt, or brought, its tokenizer.

    Raises:
        UsageError: the prompt asks for a conversation, or a role, that the model doesn't know.

    Attributes:
        end: the model's id that ends an answer.
        most, room: tokens that a prompt, and its answer, may have.
        chat: the texts before and after a prompt, where it is said in a conversation; else None.
    """

    unit = "tokens"

    def __init__(self, prompt: Prompt, text: TextModality) -> None:
        self.prompt = prompt
        self.assets = {}  # those of the text
        known = text.assets
        self.text = known["tokenizer"] if known else text.tokenizer.to_json()
        self.core = read_tokenizer(self.text)
        self.core.no_padding()
        self.core.no_truncation()
        self.shift = padding_shift(known["padding"]) if known else 0
        self.end: int = known.get("end", SEPARATOR_ID) if known else SEPARATOR_ID
        self.separate = bool(known.get("separate"))  # whether prompt and answer are two sequences
        self.most, self.room = prompt.rooms(known.get("limit") if known else None, self.separate)
        self.chat = conversation(
            prompt,
            known.get("chat") if known else None,
            known.get("chat_problem") if known else None,
        )
        self.knows_spaces = self._ids(" ") != self._ids(UNKNOWN)

    def write(self, column: Column, arrays: Arrays) -> dict[int, str]:
        """Tokenise; a prompt that is too long loses tokens, of the user's text alone."""
        errors: dict[int, str] = {}
        has = arrays.create("has", (len(column),), bool)
        cut = arrays.create("cut", (len(column),), np.int64)
        ids = arrays.grow("ids", np.int32)
        for row, (there, found, lost) in enumerate(self._encode(column, errors)):
            has[row], cut[row] = there, lost
            ids.append(found)
        ids.close()
        return errors

    def read(self, arrays: Arrays) -> InputStore:
        ids = arrays.get_ragged("ids")
        return PromptStore(ids, arrays.get("has"), TokenDropout(), None, arrays.get("cut"))

    def random_keys(self) -> dict[str, Any]:
        return {}

    def options(self) -> dict[str, Any]:
        known = asdict(self.prompt)
        del known["parts"], known["max_answer"]
        tokenizer = sha256(self.text.encode()).hexdigest()
        return {"prompt": known, "tokenizer": tokenizer, "chat": self.chat, "most": self.most}

    def encoder_arguments(self) -> dict[str, Any]:
        return {}

    @property
    def spaced(self) -> bool:
        """Whether a space goes before an answer."""
        alone = not self.separate and self.chat is None and not self.prompt.ends_in_space
        return alone and self.knows_spaces

    def vocabulary(self) -> dict[str, Any]:
        """Return what decides which tokens an answer has, as plain values."""
        known = json.loads(self.text)
        return {key: known.get(key) for key in DECIDING}

    def encode_answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the model's ids of answers, without the end.

        A space goes before an answer that follows a word of its prompt.
        """
        given = [f" {text}" if self.spaced else text for text in texts]
        found = self.core.encode_batch(given, add_special_tokens=False)
        return [[token for token in one.ids if token + self.shift] for one in found]  # 0 is padding

    def _ids(self, text: str) -> list[int]:
        return list(self.core.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the model's ids, without white space round it."""
        return self.core.decode(list(ids), skip_special_tokens=True).strip()

    def _encode(
        self, column: Column, errors: dict[int, str]
    ) -> Iterator[tuple[bool, np.ndarray, int]]:
        """Yield (whether there is a prompt, its ids, tokens that were cut) of each row."""
        chunks = range(0, len(column), CHUNK)
        before, after = self.chat or ("", "")
        for start in track(chunks, "tokenising prompts") if len(chunks) > 1 else chunks:
            cells = list(column[start : start + CHUNK])
            wrong = {p: why for p, cell in enumerate(cells) if (why := text_problem(cell))}
            errors |= {start + place: why for place, why in wrong.items()}
            there = [p not in wrong and has_text(cell) for p, cell in enumerate(cells)]
            texts = [
                f"{before}{cell if ok else ''}{after}"
                for cell, ok in zip(cells, there, strict=True)
            ]
            found = self.core.encode_batch(texts, add_special_tokens=self.chat is None)
            for text, ok, one in zip(texts, there, found, strict=True):
                ids = np.array(one.ids, dtype=np.int64)
                own = self._may_be_cut(one, len(before), len(text) - len(after))
                if self._ends(ids) and not own[-1]:  # else an answer would begin after the end
                    ids, own = ids[:-1], own[:-1]
                found_ids = ids + self.shift
                own, found_ids = own[found_ids != 0], found_ids[found_ids != 0]  # 0 is padding
                kept = self._kept(own)
                yield ok, found_ids[kept], len(found_ids) - len(kept)

    def _ends(self, ids: np.ndarray) -> bool:
        """Say whether a prompt that an answer follows ends in the model's own end."""
        alone = not self.separate and self.chat is None
        return bool(alone and len(ids) and ids[-1] == self.end)

    def _may_be_cut(self, encoding: Any, start: int, end: int) -> np.ndarray:
        """Return which tokens are of the row's own text: (L,) bool."""
        special = np.array(encoding.special_tokens_mask, dtype=bool)
        places = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        return ~special & (places[:, 0] >= start) & (places[:, 1] <= end)

    def _kept(self, own: np.ndarray) -> np.ndarray:
        """Return the places of the tokens that stay, at most ``max_tokens`` of them."""
        surplus = len(own) - self.most
        places = np.arange(len(own))
        if surplus <= 0:
            return places
        mine = places[own]
        if surplus >= len(mine):
            raise UsageError(
                f"max_prompt must leave room for a part of the row, got {self.most} tokens, of "
                f"which the model's form of a conversation needs {len(own) - len(mine)}"
            )
        lost = mine[:surplus] if self.prompt.cut == "left" else mine[-surplus:]
        return np.setdiff1d(places, lost)


class PromptStore(TextStore):
    """Token ids of prompts."""

    def note(self) -> str | None:
        """Say how many prompts were cut, if that matters."""
        count, rows = int((self.cut > 0).sum()), max(1, int(self.has.sum()))
        if count / rows < WORTH_SAYING:
            return None
        return (
            f"{count:,} of {rows:,} prompts are too long: {int(self.cut.sum()):,} tokens are cut; "
            "a larger max_prompt keeps more, up to what the model reads"
        )


def conversation(
    prompt: Prompt, chat: Mapping[str, Any] | None, problem: str | None = None
) -> tuple[str, str] | None:
    """Return what stands before and after a prompt in a conversation; None: it stands alone.

    Args:
        prompt: of a task.
        chat: {"plain": [before, after], "system": [before, between, after] or None} of the model;
            None: it knows no conversations.
        problem: why the model's chat template can't be used, if that is so.

    Raises:
        UsageError: the model knows no conversation, or no such role in it.
    """
    wanted = bool(chat) if prompt.chat is None else prompt.chat
    lacks = "this one has none" if problem is None else f"that of this one can't be used: {problem}"
    if not wanted:
        if prompt.system is not None:
            raise UsageError(
                f"system needs a model with a chat template, and {lacks}; put it into the prompt"
            )
        return None
    if not chat:
        raise UsageError(f"chat=true needs a model with a chat template, and {lacks}")
    if prompt.system is None:
        before, after = chat["plain"]
        return before, after
    if chat.get("system") is None:
        raise UsageError(
            "the model's chat template takes no system message; put it into the prompt, and leave "
            "system out"
        )
    before, between, after = chat["system"]
    return f"{before}{prompt.system}{between}", after
