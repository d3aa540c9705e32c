"""Numbers by which a task's answers can be explained: parts of a row add to them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pollinate.errors import UsageError
from pollinate.suggest import hint


class AnswerScores(ABC):
    """A number for each of a task's A answers, larger where an output says more for the answer.

    Attributes:
        meaning: of the numbers, for people.
    """

    meaning: str

    @abstractmethod
    def of(self, output: Tensor) -> Tensor:
        """Return the numbers of outputs (N, ...), differentiable: (N, A)."""

    @abstractmethod
    def given(self, output: Tensor) -> list[list[int]]:
        """Return the answers that outputs (N, ...) give, which may be several or none a row."""

    @abstractmethod
    def name(self, answer: int) -> str:
        """Return an answer's name."""

    @abstractmethod
    def number(self, name: str) -> int | None:
        """Return the answer of a name, None if there is none."""

    @abstractmethod
    def wanted(self, wish: str, output: Tensor) -> list[list[int]]:
        """Return each row's answers that a user means by a word.

        Raises:
            UsageError: there is none that it can mean.
        """


def against_others(logits: Tensor) -> Tensor:
    """Return z_c less the mean of the others' z, over the last dimension."""
    count = logits.shape[-1]
    return (logits - logits.mean(dim=-1, keepdim=True)) * (count / max(1, count - 1))


class NamedScores(AnswerScores):
    """Answers with names.

    Args:
        names: of the A answers.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)

    def name(self, answer: int) -> str:
        return self.names[answer]

    def number(self, name: str) -> int | None:
        return self.names.index(name) if name in self.names else None

    def wanted(self, wish: str, output: Tensor) -> list[list[int]]:
        found = self.number(wish)
        if found is None:
            known = hint(wish, self.names, "answers")
            raise UsageError(f"answer {wish!r} is none of the task's{known}")
        return [[found]] * len(output)


class ClassScores(NamedScores):
    """z_c - mean of the other classes' z: of two classes, the log-odds."""

    meaning = "log-odds of the class against the mean of the others"

    def of(self, output: Tensor) -> Tensor:
        return against_others(output.float())

    def given(self, output: Tensor) -> list[list[int]]:
        return [[number] for number in output.argmax(dim=-1).tolist()]


class LabelScores(NamedScores):
    """z_c: each label's log-odds."""

    meaning = "log-odds that the label applies"

    def of(self, output: Tensor) -> Tensor:
        return output.float()

    def given(self, output: Tensor) -> list[list[int]]:
        """Return the labels that apply, of a row without any the likeliest."""
        likeliest = output.argmax(dim=-1).tolist()
        return [
            [number for number, z in enumerate(row) if z > 0] or [first]
            for row, first in zip(output.tolist(), likeliest, strict=True)
        ]


class NumberScores(NamedScores):
    """One number a row.

    Args:
        meaning: of the number.
        number_of: outputs (N, ...) -> (N,).
    """

    def __init__(self, meaning: str, number_of: Callable[[Tensor], Tensor]) -> None:
        super().__init__(["higher"])
        self.meaning = meaning
        self.number_of = number_of

    def of(self, output: Tensor) -> Tensor:
        return self.number_of(output.float())[:, None]

    def given(self, output: Tensor) -> list[list[int]]:
        return [[0]] * len(output)


class TagScores(AnswerScores):
    """z_wt - mean of the word's other tags' z, z = log p: answer w C + t is tag t of word w.

    Args:
        tags: names of the C tags.
        log_probabilities: outputs (N, ...) -> (N, W, C).
        real: outputs (N, ...) -> (N, W) bool, the words that were read.
        answers: outputs (N, ...) -> (N, W), tag numbers.
        outside: the tag of words of which there is nothing to say.
    """

    meaning = "log-odds of the word's tag against the mean of the others"

    def __init__(
        self,
        tags: Sequence[str],
        log_probabilities: Callable[[Tensor], Tensor],
        real: Callable[[Tensor], Tensor],
        answers: Callable[[Tensor], Tensor],
        outside: str,
    ) -> None:
        self.tags = list(tags)
        self.log_probabilities = log_probabilities
        self.real = real
        self.answers = answers
        self.outside = outside

    def of(self, output: Tensor) -> Tensor:
        return against_others(self.log_probabilities(output)).flatten(1)

    def given(self, output: Tensor) -> list[list[int]]:
        """Return the word whose tag is surest, one that isn't ``outside`` if there is any."""
        scores, tags = self.log_probabilities(output), self.answers(output)
        if not scores.shape[1]:
            return [[] for _ in output]
        sure = scores.float().log_softmax(dim=-1).gather(-1, tags[..., None]).squeeze(-1)
        real = self.real(output)
        plain = self.tags.index(self.outside) if self.outside in self.tags else -1
        worth = sure.masked_fill(tags == plain, -1e6).masked_fill(~real, -torch.inf)
        words = worth.argmax(dim=1)
        found = (words * len(self.tags) + tags.gather(1, words[:, None])[:, 0]).tolist()
        return [[n] if any(own) else [] for n, own in zip(found, real.tolist(), strict=True)]

    def name(self, answer: int) -> str:
        word, tag = divmod(answer, len(self.tags))
        return f"word {word + 1}: {self.tags[tag]}"

    def number(self, name: str) -> int | None:
        word, _, tag = name.removeprefix("word ").partition(": ")
        known = word.isdecimal() and tag in self.tags
        return (int(word) - 1) * len(self.tags) + self.tags.index(tag) if known else None

    def wanted(self, wish: str, output: Tensor) -> list[list[int]]:
        """Return the tag of the word of that number, counted from 1; none of a shorter row."""
        if not wish.isdecimal() or int(wish) < 1:
            raise UsageError(
                f"an answer of a task that labels words must be a word's number, >= 1, got {wish}"
            )
        word, tags = int(wish) - 1, self.answers(output).tolist()
        real = self.real(output).tolist()
        return [
            [word * len(self.tags) + row[word]] if word < len(row) and own[word] else []
            for row, own in zip(tags, real, strict=True)
        ]


class MatchScores(NamedScores):
    """a b, how well a row's two modalities fit each other: of pairs of vectors (N, 2, E)."""

    def __init__(self, modalities: Sequence[str]) -> None:
        super().__init__(["fitting"])
        self.meaning = f"how well {' and '.join(modalities)} fit each other"

    def of(self, output: Tensor) -> Tensor:
        first, second = output.float().unbind(dim=1)
        return (first * second).sum(dim=1, keepdim=True)

    def given(self, output: Tensor) -> list[list[int]]:
        """Return that they fit, of rows that have both."""
        both = output.ne(0).any(dim=-1).all(dim=-1)
        return [[0] if one else [] for one in both.tolist()]

    def wanted(self, wish: str, output: Tensor) -> list[list[int]]:
        super().wanted(wish, output)
        return self.given(output)
