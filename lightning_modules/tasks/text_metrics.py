"""Metrics of written answers, and of how well the right ones were foreseen."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from torch import Tensor
from torchmetrics.text import CHRFScore, SacreBLEUScore

from datamodules.prompts import TextCodec
from lightning_modules.answers import (
    NOT_WRITTEN,
    surprise_of,
    token_counts,
    written_tokens,
)
from lightning_modules.tasks.running_mean import RunningMean

# scripts without spaces between words: each character is one
ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{ALONE}]|[^\W{ALONE}]+|[^\w\s]")


def words_of(text: str) -> list[str]:
    """Return words and punctuation marks, in lower case."""
    return WORD.findall(text.lower())


class AnswerTexts:
    """Reads what was written and what is right as texts.

    Args:
        codec: turns tokens into text.
        stop: texts at which an answer ends.
    """

    def __init__(self, codec: TextCodec, stop: Sequence[str] = ()) -> None:
        self.codec = codec
        self.stop = tuple(stop)
        self._known = lru_cache(maxsize=4096)(self._text)  # several metrics read the same answer

    def pairs(self, output: Tensor, target: Tensor) -> Iterator[tuple[str, str]]:
        """Yield (written, right) of the rows that have a written answer."""
        for tokens, wanted in zip(written_tokens(output).tolist(), target.tolist(), strict=True):
            if tokens[0] != NOT_WRITTEN:
                yield self.text(tokens), self.text(wanted)

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text of a row of the model's ids, -1 beyond the end."""
        return self._known(tuple(token for token in tokens if token >= 0))

    def _text(self, tokens: tuple[int, ...]) -> str:
        text = self.codec.decode([token for token in tokens if token != self.codec.end])
        places = [place for one in self.stop if (place := text.find(one)) >= 0]
        return text[: min(places)].strip() if places else text

    def __deepcopy__(self, _: dict[int, Any]) -> AnswerTexts:
        return self  # nothing of it changes

    def __getstate__(self) -> dict[str, Any]:
        return {"codec": self.codec, "stop": self.stop}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["codec"], state["stop"])  # type: ignore[misc]  # as it was made


class TextMean(RunningMean):
    """The mean over answers of a comparison of texts.

    Args:
        texts: reads answers.
    """

    def __init__(self, texts: AnswerTexts) -> None:
        super().__init__()
        self.texts = texts

    def update(self, output: Tensor, target: Tensor) -> None:
        """Add rows of ``FreeAnswers`` (N, 3 + T) and right tokens (N, A)."""
        found = [self.compare(own, right) for own, right in self.texts.pairs(output, target)]
        self.total += sum(found)
        self.count += len(found)

    def compare(self, written: str, right: str) -> float:
        """Return how good an answer is, in [0, 1]."""
        raise NotImplementedError


class ExactMatch(TextMean):
    """Share of answers that are right to the letter."""

    def compare(self, written: str, right: str) -> float:
        return float(written == right)


class TokenF1(TextMean):
    """Mean of 2 P R / (P + R) over the words that an answer and the right one share.

    Source: Rajpurkar et al. 2016, "SQuAD", section 6.1; words here are not normalised but for case.
    """

    def compare(self, written: str, right: str) -> float:
        own, wanted = Counter(words_of(written)), Counter(words_of(right))
        if not own or not wanted:
            return float(own == wanted)
        shared = (own & wanted).total()
        return 2 * shared / (own.total() + wanted.total())


class Perplexity(RunningMean):
    """exp of the mean surprise of the right answers' tokens."""

    higher_is_better = False

    def update(self, output: Tensor, target: Tensor) -> None:
        """Add rows of ``FreeAnswers`` (N, 3 + T)."""
        self.total += surprise_of(output).double().sum()
        self.count += token_counts(output)[1].double().sum()

    def compute(self) -> Tensor:
        return (self.total / self.count).exp()


class ForeseenTokens(RunningMean):
    """Share of the right answers' tokens that are the most probable ones, after those before."""

    def update(self, output: Tensor, target: Tensor) -> None:
        """Add rows of ``FreeAnswers`` (N, 3 + T)."""
        right, tokens = token_counts(output)
        self.total += right.double().sum()
        self.count += tokens.double().sum()


class TokenAccuracy(RunningMean):
    """The same of logits (N, A, V), as training has them."""

    def update(self, output: Tensor, target: Tensor) -> None:
        """Add logits (N, A, V) and right tokens (N, A), -1 beyond the end."""
        wanted = target[:, : output.shape[1]]
        real = wanted >= 0
        if output.shape[1]:
            self.total += ((output.argmax(dim=-1) == wanted) & real).sum()
        self.count += real.sum()


class RougeL(TextMean):
    """Mean of ROUGE-L: F1 of the longest row of words that both have in the same order.

    Source: Lin 2004, "ROUGE", section 3.1.
    """

    def compare(self, written: str, right: str) -> float:
        own, wanted = words_of(written), words_of(right)
        if not own or not wanted:
            return float(own == wanted)
        common = longest_common(own, wanted)
        return 2 * common / (len(own) + len(wanted))


def longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for word in first:
        before = 0
        for place, other in enumerate(second, start=1):
            before, row[place] = (
                row[place],
                before + 1 if word == other else max(row[place], row[place - 1]),
            )
    return row[-1]


class Bleu(SacreBLEUScore):
    """Corpus BLEU of the 13a tokenisation, in [0, 1]."""

    def __init__(self, texts: AnswerTexts) -> None:
        super().__init__()
        self.texts = texts

    def update(  # type: ignore[override]  # it reads the texts itself
        self, output: Tensor, target: Tensor
    ) -> None:
        """Add rows of ``FreeAnswers`` (N, 3 + T) and right tokens (N, A)."""
        pairs = list(self.texts.pairs(output, target))
        if pairs:
            super().update([own for own, _ in pairs], [[right] for _, right in pairs])


class Chrf(CHRFScore):
    """chrF of n-grams of up to 6 characters, in [0, 1]; for every script."""

    def __init__(self, texts: AnswerTexts) -> None:
        super().__init__(n_word_order=0)
        self.texts = texts

    def update(  # type: ignore[override]  # it reads the texts itself
        self, output: Tensor, target: Tensor
    ) -> None:
        """Add rows of ``FreeAnswers`` (N, 3 + T) and right tokens (N, A)."""
        pairs = list(self.texts.pairs(output, target))
        if pairs:
            super().update([own for own, _ in pairs], [[right] for _, right in pairs])


# {name of a score: its metric}
TEXT_METRICS: dict[str, type[Any]] = {
    "exact_match": ExactMatch,
    "token_f1": TokenF1,
    "rouge_l": RougeL,
    "bleu": Bleu,
    "chrf": Chrf,
}
