"""How tasks that answer in words ask a language model, and what is kept of its answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from datamodules.features import Features
from lightning_modules.encoders.language_model import (
    MOST_TOKENS,
    NO_TOKEN,
    Decoding,
    LanguageModel,
    without_padding,
)
from lightning_modules.views import EncodedDataset, View

NOT_WRITTEN = -2  # in place of a token: the row's answer wasn't written
MOST_TARGETS = 1024  # tokens of right answers at a time, with a logit of each token: 0.2 GB of them
FIELDS = 3  # numbers of a row before its answer's tokens


class AnswerView(View, ABC):
    """Reads a row's prompt and answer by the language model itself, without trunk and head."""

    prompted = True
    reads_answers: bool = False  # whether what the model makes of the right answers is wanted

    def groups(self, encoded: EncodedDataset) -> dict[str, Features]:
        """Return nothing: the trunk has no part in it."""
        return {}

    def output(self, head: nn.Module, rows: Tensor, encoded: Sequence[EncodedDataset]) -> Tensor:
        """Refuse: the network gives the logits of answers itself."""
        raise NotImplementedError

    @abstractmethod
    def width(self, prompt: int) -> int:
        """Return how many tokens' vectors are held for a row whose prompt has so many tokens."""

    @abstractmethod
    def answer(
        self, model: LanguageModel, task: str, prompts: Tensor, chosen: Tensor, said: SaidAnswers
    ) -> Tensor:
        """Return what is predicted of rows: (N, K).

        Args:
            model: which answers.
            task: its name.
            prompts: (N, P) token ids, padded with 0; a row of zeros has no prompt.
            chosen: (N,) bool, the rows for which there is time.
            said: what the model makes of the right answers, where they are known.
        """


@dataclass(frozen=True)
class SaidAnswers:
    """What a model makes of the answers that are right: all (N,), 0 where none is known.

    surprise: -log p(answer | prompt), in nats.
    right: tokens that were the most probable ones where they stand.
    tokens: of the answer.
    """

    surprise: Tensor
    right: Tensor
    tokens: Tensor

    @classmethod
    def of(cls, logits: Tensor, answers: Tensor) -> SaidAnswers:
        """Measure logits (N, A, V) at answers (N, A), -1 beyond the end."""
        real = answers >= 0
        losses = functional.cross_entropy(
            logits.float().mT, answers, reduction="none", ignore_index=NO_TOKEN
        )
        right = (logits.argmax(dim=-1) == answers) & real
        return cls(losses.sum(dim=1), right.sum(dim=1), real.sum(dim=1))

    def filled(self, there: Tensor, found: SaidAnswers) -> SaidAnswers:
        """Return this with what was found of the rows of a mask (N,)."""
        pairs = zip(
            (self.surprise, self.right, self.tokens),
            (found.surprise, found.right, found.tokens),
            strict=True,
        )
        return SaidAnswers(*[one.masked_scatter(there, own.to(one)) for one, own in pairs])

    @classmethod
    def nothing(cls, rows: int, device: torch.device) -> SaidAnswers:
        """Return what there is where no answer is known."""
        none = torch.zeros(rows, dtype=torch.float32, device=device)
        return cls(none, none, none)


class FreeAnswers(AnswerView):
    """Writes an answer token by token.

    What is predicted of a row is (3 + T,): surprise, right tokens and tokens of ``SaidAnswers``,
    then the tokens that were written, -1 beyond the end, -2 where nothing was written.

    Args:
        decoding: how answers are written.
    """

    reads_answers = True

    def __init__(self, decoding: Decoding) -> None:
        self.decoding = decoding
        self.tokenizer: Any = None  # of transformers, where there are texts to stop at

    def width(self, prompt: int) -> int:
        return (prompt + self.decoding.max_tokens) * self.decoding.beams

    def answer(
        self, model: LanguageModel, task: str, prompts: Tensor, chosen: Tensor, said: SaidAnswers
    ) -> Tensor:
        wanted = chosen & (prompts != 0).any(dim=1)
        known = torch.stack([said.surprise, said.right, said.tokens], dim=1).float()
        if not wanted.any():
            written = prompts.new_full((len(prompts), 1), NOT_WRITTEN)
        else:
            own = without_padding(prompts[wanted], 0)
            found = model.write(task, own, self.decoding, self.tokenizer)
            found = functional.pad(found, (0, int(not found.shape[1])), value=NO_TOKEN)
            written = found.new_full((len(prompts), found.shape[1]), NOT_WRITTEN)
            written[wanted] = found
        return torch.cat([known, written.float()], dim=1)


class ChosenAnswers(AnswerView):
    """Compares the answers that are possible: (N, C) of log p(choice | prompt).

    Args:
        per_token: whether log p is divided by a choice's number of tokens.
    """

    def __init__(self, per_token: bool = False) -> None:
        self.per_token = per_token
        self.choices: Sequence[Sequence[int]] = ()  # C rows of A, known with the tokenizer

    def width(self, prompt: int) -> int:
        return prompt + max(map(len, self.choices), default=0)

    def answer(
        self, model: LanguageModel, task: str, prompts: Tensor, chosen: Tensor, said: SaidAnswers
    ) -> Tensor:
        assert self.choices, "use_codec comes first"
        choices = torch.tensor(self.choices, device=prompts.device)
        there = (prompts != 0).any(dim=1)
        # in 32 bits, whatever the model's weights are
        found = torch.zeros(
            (len(prompts), len(choices)), dtype=torch.float32, device=prompts.device
        )
        if there.any():
            own = without_padding(prompts[there], 0)
            scores = model.score(task, own, choices).float()
            if self.per_token:
                scores = scores / (choices >= 0).sum(dim=1)
            found[there] = scores
        return found


def answer_blocks(lengths: Sequence[int], view: AnswerView, targets: int) -> list[list[int]]:
    """Return rows that are answered together: those of like length, within bounds of memory.

    Args:
        lengths: tokens of the rows' prompts.
        view: how they are answered.
        targets: most tokens of the right answers, 0 if none are known.
    """
    blocks: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: (lengths[row], row)):
        width = max(view.width(lengths[row]), lengths[row] + targets)
        full = not blocks or (len(blocks[-1]) + 1) * width > MOST_TOKENS
        full = full or (len(blocks[-1]) + 1) * targets > MOST_TARGETS
        if full:
            blocks.append([])
        blocks[-1].append(row)
    return blocks


def surprise_of(output: Tensor) -> Tensor:
    """Return -log p of the right answers, of what ``FreeAnswers`` predicts: (N,)."""
    return output[:, 0]


def token_counts(output: Tensor) -> tuple[Tensor, Tensor]:
    """Return the right tokens and the tokens of the right answers: (N,) each."""
    return output[:, 1], output[:, 2]


def written_tokens(output: Tensor) -> Tensor:
    """Return the tokens that were written: (N, T) int64."""
    return output[:, FIELDS:].round().long()
