"""An answer in words, written by a language model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution
from torch.nn import functional
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from datamodules.inputs import columns_named
from datamodules.labelled_task import EncodedTargets, Target
from datamodules.prompts import Prompt, TextCodec
from datamodules.table import Column, Columns
from lightning_modules.answers import (
    FIELDS,
    AnswerView,
    ChosenAnswers,
    FreeAnswers,
    surprise_of,
    token_counts,
    written_tokens,
)
from lightning_modules.calibration.base import Calibrator
from lightning_modules.calibration.temperature import Temperature
from lightning_modules.conformal.class_sets import ClassSets
from lightning_modules.encoders.language_model import NO_TOKEN, Decoding
from lightning_modules.output_spaces import AnswerOutput, CategoricalOutput, OutputSpace
from lightning_modules.tasks.base import (
    Label,
    TargetForm,
    Task,
    class_names,
    class_problem,
    label_text,
    mean_softmax,
)
from lightning_modules.tasks.class_metrics import MacroF1, confusion_metric
from lightning_modules.tasks.text_metrics import (
    TEXT_METRICS,
    AnswerTexts,
    ForeseenTokens,
    Perplexity,
    TokenAccuracy,
)
from pollinate.errors import PollinateError, UsageError
from pollinate.suggest import hint, listing

AVERAGES = ("token", "row")
MAX_ANSWER = "max_answer"
LABELS = "labels"  # in place of a list of choices: the answers of the training split
MOST_CHOICES = 1000
SLACK = 1.25  # times the longest training answer's tokens is what an answer may have
WORTH_SAYING = 0.01  # share of answers that were cut, below which nothing is said of it


class AnswerForm(ABC):
    """What kind of answers there are: free ones, or one of several choices.

    Attributes:
        view: how the language model is asked.
        score: the metric by which runs are compared.
    """

    view: AnswerView
    score: str

    @abstractmethod
    def use(self, task: Generation) -> None:
        """Take over what a task knows of tokens and answers."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of what was predicted: (N,)."""

    @abstractmethod
    def metrics(self) -> dict[str, Metric]:
        """Return metrics of what was predicted."""

    def metric_target(self, target: Tensor) -> Tensor:
        """Return what metrics take of right answers (N, A)."""
        return target

    @abstractmethod
    def decode(self, output: Tensor) -> list[Label]:
        """Return the answers for people."""

    @abstractmethod
    def constant(self, target: Tensor, answer: Sequence[int]) -> Tensor:
        """Return what would be predicted if each row's answer were the same tokens."""

    def calibrators(self) -> Mapping[str, Callable[[], Calibrator]]:
        """Return what may calibrate what is predicted: see ``Task``."""
        return {}

    def conformal(self) -> ClassSets | None:
        """Return what makes sets of what is predicted, None if there are none."""
        return None

    def confidence(self, output: Tensor, calibrated: Tensor) -> Tensor | None:
        """Return the probability of the answer: (N,); None: unknown."""
        return None

    def mistakes(self, output: Tensor, target: Tensor) -> Tensor:
        """Return 1 where the answer is wrong, of targets as metrics take them: (N,)."""
        raise NotImplementedError("answers that have confidences have mistakes")


class FreeForm(AnswerForm):
    """Texts; see ``FreeAnswers`` for what is predicted."""

    def __init__(self, decoding: Decoding, score: str) -> None:
        self.view: FreeAnswers = FreeAnswers(decoding)
        self.score = score

    def use(self, task: Generation) -> None:
        decoding = task.writing
        self.view.decoding = decoding
        self.view.tokenizer = task.stopping_tokenizer()
        self.texts = AnswerTexts(task.codec, decoding.stop)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the surprise at the right answer, by token."""
        return surprise_of(output) / token_counts(output)[1].clamp(min=1)

    def metrics(self) -> dict[str, Metric]:
        found: dict[str, Metric] = {n: kind(self.texts) for n, kind in TEXT_METRICS.items()}
        return {**found, "perplexity": Perplexity(), "token_accuracy": ForeseenTokens()}

    def decode(self, output: Tensor) -> list[Label]:
        return [{"label": self.texts.text(row)} for row in written_tokens(output).tolist()]

    def constant(self, target: Tensor, answer: Sequence[int]) -> Tensor:
        row = torch.tensor([0.0] * FIELDS + [float(n) for n in answer])
        return row.expand(len(target), -1)


class ChoiceForm(AnswerForm):
    """One of several answers; what is predicted is log p(choice | prompt): (N, C)."""

    score = "accuracy"

    def __init__(self, choices: Sequence[str] | None, per_token: bool) -> None:
        self.view: ChosenAnswers = ChosenAnswers(per_token)
        self.names = list(choices or ())

    def use(self, task: Generation) -> None:
        self.names = list(task.choices)
        self.view.choices = task.tokens_of(self.names).tolist()
        if len(set(map(tuple, self.view.choices))) < len(self.names):
            raise UsageError(
                f"choices must differ in their tokens, got {', '.join(map(repr, self.names[:8]))}, "
                "some of which are the same to this model; write them otherwise"
            )

    def numbers(self, target: Tensor) -> Tensor:
        """Return each right answer's place among the choices: (N, A) -> (N,), 0 if it is none."""
        choices = torch.tensor(self.view.choices, device=target.device)
        widest = max(target.shape[1], choices.shape[1])
        rows = functional.pad(target, (0, widest - target.shape[1]), value=NO_TOKEN)
        known = functional.pad(choices, (0, widest - choices.shape[1]), value=NO_TOKEN)
        same = (rows[:, None] == known[None]).all(dim=2)
        return same.long().argmax(dim=1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return -log p(right choice | prompt, one of the choices)."""
        return functional.cross_entropy(output.float(), self.numbers(target), reduction="none")

    def metrics(self) -> dict[str, Metric]:
        count = len(self.names)
        return {
            "accuracy": MulticlassAccuracy(count, average="micro", validate_args=False),
            "f1": MacroF1(count),
            "confusion": confusion_metric(count),
        }

    def metric_target(self, target: Tensor) -> Tensor:
        return self.numbers(target)

    def decode(self, output: Tensor) -> list[Label]:
        rows = output.float().softmax(dim=-1).tolist()
        return [
            {
                "label": self.names[best],
                "probability": row[best],
                "probabilities": dict(zip(self.names, row, strict=True)),
            }
            for row in rows
            for best in [max(range(len(row)), key=row.__getitem__)]
        ]

    def constant(self, target: Tensor, answer: Sequence[int]) -> Tensor:
        chosen = self.numbers(torch.tensor([list(answer)]))
        row = functional.one_hot(chosen, len(self.names)).float()
        return row.expand(len(target), -1)

    def calibrators(self) -> Mapping[str, Callable[[], Calibrator]]:
        return {"temperature": Temperature}

    def conformal(self) -> ClassSets:
        return ClassSets(self.names)

    def confidence(self, output: Tensor, calibrated: Tensor) -> Tensor:
        probabilities = calibrated.double().softmax(dim=-1)
        return probabilities.gather(1, output.argmax(dim=1, keepdim=True)).squeeze(1)

    def mistakes(self, output: Tensor, target: Tensor) -> Tensor:
        return (output.argmax(dim=1) != target).float()


class Generation(Task):
    """log p(answer | prompt) = sum_i log p(a_i | prompt, a_1 ... a_{i-1}) of a language model.

    L = -log p(answer | prompt) / n, where n is the answer's own number of tokens, its end
    included (``average=row``), or the mean number in training (``average=token``: each token counts
    the same). Tokens of the prompt have no loss. A row without an answer costs nothing.

    With ``choices`` an answer is one of these: it is learnt in the same way, and predicted as the
    one of the largest log p(choice | prompt).

    Args:
        dataset, target, unseen, unlabelled: as for ``Task``.
        prompt: a text with {columns}, such as "Question: {question}\\nAnswer:".
        system: what the model is told before a conversation.
        chat: whether the model's form of a conversation is used; None: where it has one.
        max_prompt: tokens of a prompt that are kept, >= 1.
        cut: the side, left or right, that loses tokens of a prompt that is too long.
        max_answer: tokens of an answer that are learnt or written, >= 1.
        average: token or row.
        label_smoothing: a of ``Classification``, in [0, 1), of each token by itself.
        choices: the possible answers, or "labels": those of the training split; None: any text.
        per_token: whether log p of a choice is divided by its tokens.
        score: the metric by which runs are compared; None: chrf, or accuracy of choices.
        beams: rows of tokens that are followed side by side, >= 1; 1 is greedy.
        temperature: of sampling, > 0; None: no sampling.
        top_k, top_p: sample among the k most probable tokens, or those that have p of the
            probability; None: all.
        seed: of sampling.
        stop: texts at which an answer ends, and which aren't part of it.
        valid_rows: rows of the validation split, the first, that answers are written for in
            training; None: all.

    Raises:
        UsageError: an argument is out of range, or the prompt names no column.

    Examples:
        >>> import pollinate as po
        >>> task = po.tasks.Generation("shop", target="reply", prompt="{question}\\nAnswer:")
        >>> task.prompt.columns, task.score
        (['question'], 'chrf')
        >>> task = po.tasks.Generation("shop", target="mood", prompt="{text}", choices=["+", "-"])
        >>> task.score
        'accuracy'
    """

    prompt: Prompt

    def __init__(
        self,
        dataset: str | Sequence[str] | None = None,
        target: Target | Mapping[str, Target] | None = None,
        *,
        prompt: str,
        system: str | None = None,
        chat: bool | None = None,
        max_prompt: int = 512,
        cut: str = "left",
        max_answer: int = 128,
        average: str = "token",
        label_smoothing: float = 0.0,
        choices: str | Sequence[Any] | None = None,
        per_token: bool = False,
        score: str | None = None,
        beams: int = 1,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        stop: Sequence[str] = (),
        valid_rows: int | None = 200,
        unseen: str = "refuse",
        unlabelled: str | Sequence[str] = (),
    ) -> None:
        super().__init__(dataset, target, unseen=unseen, unlabelled=unlabelled)
        self.prompt = Prompt(prompt, system, chat, max_prompt, cut, max_answer)
        if average not in AVERAGES:
            raise UsageError(f"average must be {' or '.join(AVERAGES)}, got {average!r}")
        if not 0 <= label_smoothing < 1:
            raise UsageError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        if valid_rows is not None and valid_rows < 1:
            raise UsageError(f"valid_rows must be >= 1, or null for all, got {valid_rows}")
        if isinstance(choices, str) and choices != LABELS:
            raise UsageError(f"choices must be a list of answers, or {LABELS}, got {choices!r}")
        self.decoding = Decoding(max_answer, beams, temperature, top_k, top_p, seed, stop)
        self.changed: dict[str, Any] = {}
        self.average = average
        self.label_smoothing = label_smoothing
        self.valid_rows = valid_rows
        self.given = None if choices is None or choices == LABELS else class_names(choices)
        self.choices: list[str] = list(self.given or ())
        self.form: AnswerForm = self._form(choices, per_token, score)
        self.view = self.form.view
        self.score = self.form.score
        self.mean_tokens = 1.0
        self.common = ""  # the most frequent answer
        self.cut_answers = self.rows = 0
        self._codec: TextCodec | None = None

    def _form(
        self, choices: str | Sequence[Any] | None, per_token: bool, score: str | None
    ) -> AnswerForm:
        if choices is not None:
            if score not in (None, ChoiceForm.score):
                raise UsageError(f"score must be accuracy where there are choices, got {score!r}")
            return ChoiceForm(self.given, per_token)
        if per_token:
            raise UsageError("per_token is for choices; leave it out")
        if score is not None and score not in TEXT_METRICS:
            raise UsageError(
                f"score must be one of {', '.join(TEXT_METRICS)}, got {score!r}"
                f"{hint(score, TEXT_METRICS, 'scores')}"
            )
        return FreeForm(self.decoding, score or "chrf")

    @property
    def classes(self) -> Sequence[str]:  # type: ignore[override]  # learnt with the choices
        """The choices, if there are any."""
        return self.choices

    @property
    def training_score(self) -> str:
        return "token_accuracy"

    @property
    def codec(self) -> TextCodec:
        """What turns answers into tokens; the data, or a checkpoint, bring it."""
        assert self._codec is not None, "use_codec comes first"
        return self._codec

    @property
    def most_tokens(self) -> int:
        """Tokens of an answer that are learnt, the end among them: as many as the model reads."""
        return min(self.decoding.max_tokens, self.codec.room)

    @property
    def writing(self) -> Decoding:
        """How answers are written: little longer than those of training, if nothing is said."""
        most = self.most_tokens
        longest = min(most, int(SLACK * self.longest_answer) + 4) if self.longest_answer else most
        return replace(self.decoding, **{"max_tokens": longest, **self.changed})

    def writing_options(self) -> dict[str, Any]:
        return {} if isinstance(self.form, ChoiceForm) else self.writing.options()

    def write_with(self, options: Mapping[str, Any]) -> None:
        if isinstance(self.form, ChoiceForm):
            return
        self.changed = {"max_tokens" if k == MAX_ANSWER else k: v for k, v in options.items()}
        self.form.use(self)

    def use_codec(self, codec: TextCodec) -> None:
        """Be told how answers become tokens."""
        self._codec = codec
        if self.choices or not isinstance(self.form, ChoiceForm):
            self.form.use(self)

    def given_away(self) -> list[str]:
        """Return the columns of the prompt from which the right answer comes."""
        targets = {name for one in self.datasets for name in columns_named(self.target_in(one))}
        return [column for column in self.prompt.columns if column in targets]

    def stopping_tokenizer(self) -> Any:
        """Return a tokenizer of transformers, where writing stops at texts; else None."""
        if not self.writing.stop:
            return None
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast(tokenizer_object=self.codec.core)

    def problems(self, values: Column, inputs: Columns) -> dict[int, str]:
        """Return cells that are none of the choices that were given."""
        found = {}
        for row, cell in enumerate(values if self.given is not None else ()):
            if problem := class_problem(label_text(cell), self.given):
                found[row] = problem.replace("classes", "choices")
        return found

    def learn(self, values: Iterable[Any]) -> None:
        """Measure the answers, and find the most frequent one.

        Raises:
            PollinateError: there are none, or too many different ones for choices.
        """
        counts = Counter(text for value in values if (text := label_text(value)) is not None)
        if not counts:
            raise PollinateError("answers must be there in the training split, got none")
        if isinstance(self.form, ChoiceForm) and self.given is None:
            if not 2 <= len(counts) <= MOST_CHOICES:
                raise PollinateError(
                    f"choices: labels needs 2 to {MOST_CHOICES} different answers in training, got "
                    f"{len(counts)}; leave choices out, to have answers written"
                )
            self.choices = sorted(counts)
        most = self.most_tokens
        lengths = self.answer_lengths(list(counts))
        kept = [min(length, most) for length in lengths]
        self.rows = counts.total()
        self.longest_answer = max(kept)
        self.cut_answers = sum(
            n for n, length in zip(counts.values(), lengths, strict=True) if length > most
        )
        total = sum(n * length for n, length in zip(counts.values(), kept, strict=True))
        self.mean_tokens = total / self.rows
        self.common = counts.most_common(1)[0][0]
        self.form.use(self)

    def notes(self) -> Iterator[str]:
        """Yield how many answers were cut, if that matters, and what the prompts give away."""
        if given := self.given_away():
            yield (
                f"the prompt names {listing(given)}, which is the answer itself, so that nothing "
                "is learnt but to repeat it; leave it out of the prompt"
            )
        if self.cut_answers > WORTH_SAYING * self.rows:
            asked, most = self.decoding.max_tokens, self.most_tokens
            more = (
                "a larger max_answer keeps more"
                if most == asked
                else "the model reads no more beside a prompt: a smaller max_prompt, or a model "
                "that reads more, keeps more"
            )
            yield (
                f"{self.cut_answers:,} of {self.rows:,} training answers are longer than {most} "
                f"tokens, and are learnt without their ends; {more}"
            )

    def encode(self, values: Iterable[Any]) -> EncodedTargets:
        """Return the model's ids of answers with their end, -1 beyond it: (N, A) int64."""
        texts = [label_text(value) for value in values]
        known = set(self.choices)
        unseen = {
            row: text
            for row, text in enumerate(texts)
            if text is not None and known and text not in known
        }
        present = [text is not None and row not in unseen for row, text in enumerate(texts)]
        own = [text or "" if there else "" for text, there in zip(texts, present, strict=True)]
        targets = self.tokens_of(own)
        targets[~torch.tensor(present, dtype=torch.bool)] = NO_TOKEN
        return EncodedTargets(targets, torch.tensor(present, dtype=torch.bool), unseen)

    def tokens_of(self, texts: Sequence[str]) -> Tensor:
        """Return the model's ids of texts with their end, -1 beyond it: (n, A) int64."""
        most, end = self.most_tokens, self.codec.end
        rows = [[*row, end][:most] for row in self.codec.encode_answers(texts)]
        found = torch.full((len(rows), max(map(len, rows), default=1)), NO_TOKEN)
        for place, row in enumerate(rows):
            found[place, : len(row)] = torch.tensor(row)
        return found

    def target_form(self) -> TargetForm:
        return TargetForm("token ids of answers (N, A), -1 beyond the end", True, (None,))

    def output_space(self) -> AnswerOutput | None:
        if self._codec is None:
            return None
        return AnswerOutput(1 + max(self.codec.core.get_vocab().values()))

    def answer_space(self) -> OutputSpace | None:
        """Return that of the choices; free answers can't be compared."""
        return CategoricalOutput() if self.choices else None

    def head(self, dim: int) -> nn.Module:
        """Return nothing: the language model has its own head."""
        return nn.Identity()

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits (N, A, V) at answers (N, A): (N,)."""
        if not output.shape[1]:  # no row of this process has an answer
            return output.flatten(1).sum(dim=1)
        target = target[:, : output.shape[1]]  # the rest is beyond the end of all
        real = target >= 0
        logits = output.to(torch.promote_types(output.dtype, torch.float32))
        losses = functional.cross_entropy(
            logits.mT,
            target,
            reduction="none",
            ignore_index=NO_TOKEN,
            label_smoothing=self.label_smoothing,
        )
        if self.average == "token":
            return losses.sum(dim=1) / self.mean_tokens
        return losses.sum(dim=1) / real.sum(dim=1).clamp(min=1)

    def answer_loss(self, output: Tensor, target: Tensor) -> Tensor:
        return self.form.loss(output, target)

    def metrics(self) -> MetricCollection:
        """Return metrics of what is predicted: of texts, or of the choices' numbers."""
        return MetricCollection(dict(self.form.metrics()), compute_groups=False)

    def metric_target(self, target: Tensor) -> Tensor:
        return self.form.metric_target(target)

    def training_metric(self) -> Metric:
        """Return the share of tokens that are the most probable ones."""
        return TokenAccuracy()

    def decode(self, output: Tensor) -> list[Label]:
        """Return the text, and of choices its probability and those of all."""
        return self.form.decode(output)

    @property
    def averages(self) -> bool:
        return isinstance(self.form, ChoiceForm)

    def ensemble_output(self, outputs: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return log sum_m w_m p_m(choice | prompt, one of the choices): (M, N, C) -> (N, C)."""
        return mean_softmax(outputs.float(), weights)

    def cells(self, answer: Label | None) -> dict[str, Any]:
        return super().cells(answer) if self.choices else {"": (answer or {}).get("label")}

    def cell_types(self) -> dict[str, type]:
        return super().cell_types() if self.choices else {"": str}

    def answer_lengths(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens answers have, the end among them."""
        return [len(row) + 1 for row in self.codec.encode_answers(texts)]

    def tokens_written(self, output: Tensor) -> int:
        if isinstance(self.form, ChoiceForm):
            return 0
        return int((written_tokens(output) >= 0).sum())

    def class_numbers(self, target: Tensor) -> Tensor | None:
        return self.form.numbers(target) if isinstance(self.form, ChoiceForm) else None

    def class_probabilities(self, output: Tensor) -> Tensor | None:
        return output.double().softmax(dim=-1) if self.choices else None

    def predictive_distribution(self, output: Tensor) -> Distribution | None:
        if not self.choices:
            return None
        return Categorical(logits=output.float(), validate_args=False)

    def calibrators(self) -> Mapping[str, Callable[[], Calibrator]]:
        """Return a temperature of the choices' probabilities."""
        return self.form.calibrators()

    def conformal(self) -> ClassSets | None:
        """Return adaptive sets of choices."""
        return self.form.conformal()

    def confidence(self, output: Tensor, calibrated: Tensor) -> Tensor | None:
        return self.form.confidence(output, calibrated)

    def mistakes(self, output: Tensor, target: Tensor) -> Tensor:
        return self.form.mistakes(output, target)

    def baseline(self, target: Tensor) -> dict[str, float]:
        """Score of always giving the most frequent training answer."""
        if not len(target):
            return {}
        output = self.form.constant(target, self.tokens_of([self.common])[0].tolist())
        metric = self.form.metrics()[self.score]
        metric.distributed_available_fn = lambda: False  # the other processes don't ask for it
        metric.update(output, self.metric_target(target))
        return {self.score: float(metric.compute())}

    def state_dict(self) -> dict[str, Any]:
        return {
            "choices": list(self.choices),
            "longest": self.longest_answer,
            "mean_tokens": self.mean_tokens,
            "common": self.common,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.choices = list(state["choices"])
        self.longest_answer, self.mean_tokens = int(state["longest"]), float(state["mean_tokens"])
        self.common = str(state["common"])
        if self._codec is not None:
            self.form.use(self)
