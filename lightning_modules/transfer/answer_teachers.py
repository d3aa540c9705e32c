"""Teachers of answers in words: how likely each token of an answer is, kept or in every step."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from datamodules.arrays import FileArrays, RaggedArray
from datamodules.mixed_datamodule import MixedDataModule
from datamodules.modalities.prompt import PromptModality
from datamodules.progress_bar import track
from datamodules.split_dataset import all_prompts
from datamodules.table import Column, take
from lightning_modules.encoders.language_model import (
    NO_TOKEN,
    AnsweredPrompts,
    LanguageModel,
    without_padding,
)
from lightning_modules.hooks import TrainingStep
from lightning_modules.source_models import SourceModel
from lightning_modules.transfer.teacher_outputs import (
    BATCH_SIZE,
    TeacherInput,
    TeacherModel,
    TeacherOutputs,
)
from pollinate.errors import UsageError
from pollinate.version import VERSION

CACHE_KIND, CACHE_FORMAT = "answer outputs", 1


@dataclass(frozen=True)
class Keeping:
    """What is kept of a teacher's outputs at the tokens of answers.

    top_k: the most probable tokens of each place, >= 1; None: nothing, it runs in every step.
    other_answers: whether a step may show other answers than the labels.

    Raises:
        UsageError: top_k is out of range.
    """

    top_k: int | None = None
    other_answers: bool = False

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(
                f"top_k must be >= 1, or null for a teacher that runs in every step, got "
                f"{self.top_k}"
            )


KEEP_NOTHING = Keeping()


def require_same_tokens(
    name: str, here: PromptModality, source: str, there: PromptModality
) -> None:
    """Check that a teacher's and a student's answers are the same rows of tokens.

    Raises:
        UsageError: they aren't.
    """
    another = "; let it write answers, which any tokenizer can: transfer=sequence_level"
    if there.vocabulary() != here.vocabulary() or there.end != here.end:
        raise UsageError(
            f"{source} must have the tokenizer of the encoder of texts here to teach {name} token "
            f"by token, and has another{another}"
        )
    if there.spaced != here.spaced:
        ways = ["as they are", "after a space"]
        raise UsageError(
            f"{source} must begin answers as the task {name} here does, got {ways[there.spaced]} "
            f"there, {ways[here.spaced]} here; set chat=false, or chat=true, for both{another}"
        )


class AnswerTeacher(TeacherModel):
    """Says of each token of an answer how likely it was: log p(. | prompt, a_1 ... a_{i-1}).

    It reads the prompt in its own form: its template, its conversation.

    Args:
        source, dataset, read: as for ``TeacherModel``; ``read`` has its prompts.
        task: of this run.
        there: the teacher's name for it.
        tokens: ids of the tokenizer.
        keeping: what is kept.
    """

    def __init__(
        self,
        source: SourceModel,
        dataset: str,
        read: Mapping[str, TeacherInput],
        task: str,
        there: str,
        tokens: int,
        keeping: Keeping,
    ) -> None:
        super().__init__(source, dataset, read)
        self.task = task
        self.there = there
        self.tokens = tokens
        self.keeping = keeping
        predictor = source.predictor()
        self.model: LanguageModel | None = predictor.single_network.language_model
        self.modality: PromptModality = predictor.prompt_modality(there)
        self.cells: Column = next(iter(read.values())).cells
        self.rows = np.empty(0, np.int64)  # of the split, in the table
        self.table: AnswerTable | None = None

    def require_possible(self, data: MixedDataModule) -> None:
        if data.loaded[self.dataset].table.streamed and self.keeping.top_k is not None:
            raise UsageError(
                f"the rows of {self.dataset} are streamed, so nothing can be kept of what "
                f"{self.name} says of them; set transfer.top_k=null, and it runs in every step"
            )

    def prepare(
        self, data: MixedDataModule, device: torch.device, say: Callable[[str], None]
    ) -> None:
        if self.table is not None:
            return  # as a search of the learning rate leaves it
        assert self.source is not None
        assert self.model is not None
        part = data.parts["train"][self.dataset]
        self.rows = part.rows
        self.model.eval().requires_grad_(False).to(device)
        if self.keeping.top_k is None:
            return
        answers = labels_of(part.targets[self.task], part.present[self.task])
        key = [CACHE_FORMAT, VERSION, torch.__version__, self.source.digest, self.there]
        key += [self.modality.options(), self.keeping.top_k, self.tokens]
        key += [one.key for one in self.read.values()]
        key += [array_digest(self.rows), array_digest(answers.numpy())]

        def make(folder: Path) -> None:
            say(
                f"computing the {min(self.tokens, self.keeping.top_k or 0):,} likeliest tokens of "
                f"{self.name} at {int((answers >= 0).sum()):,} tokens of {self.task} in "
                f"{self.dataset}, once"
            )
            self._fill(folder, answers, device)

        self.table = AnswerTable(data.policy.cache.get(CACHE_KIND, key, make, say), self.tokens)
        if not self.keeping.other_answers:
            self.model = self.source = None  # a model may be large

    def outputs(self, index: Tensor, answers: Tensor, labels: bool) -> tuple[Tensor, Tensor]:
        """Return logits (n, A, V) of the n rows that have some, and which these are, (N,) bool.

        Args:
            index: (N,) the rows' numbers in their split.
            answers: (N, A) token ids, -1 beyond the end, and in rows without one.
            labels: whether they are the rows' labels, of which outputs may be kept.
        """
        if self.table is not None and labels:
            return self.table.rows(index, answers)
        assert self.model is not None
        prompts = self._prompts(self.rows[index.cpu().numpy()]).to(answers.device)
        has = (prompts != 0).any(dim=1) & (answers >= 0).any(dim=1)
        own = without_padding(answers[has], NO_TOKEN)
        asked = AnsweredPrompts(self.there, without_padding(prompts[has], 0), own)
        with torch.no_grad():
            _, (found,) = self.model.to(answers.device).read(None, [asked])
        return found[..., : self.tokens], has

    def _prompts(self, rows: np.ndarray) -> Tensor:
        """Return the prompts of rows of the table, of zeros where there is none: (n, P)."""
        store = self.modality.prepare(list(take(self.cells, rows))).store
        return all_prompts(store, np.arange(len(rows)))

    def _fill(self, folder: Path, answers: Tensor, device: torch.device) -> None:
        arrays, k = FileArrays(folder), min(self.tokens, self.keeping.top_k or self.tokens)
        places = arrays.create("places", (len(answers),), np.int64)
        places[...] = -1
        lengths = (answers >= 0).sum(dim=1).numpy()
        order = np.argsort(lengths, kind="stable")  # little padding
        order = order[lengths[order] > 0]
        known = arrays.grow("answers", np.int32)
        numbers = arrays.grow("ids", np.int32, (k,))
        logits, rest = arrays.grow("logits", np.float32, (k,)), arrays.grow("rest", np.float32)
        starts = range(0, len(order), BATCH_SIZE)
        count = 0
        for start in track(starts, f"outputs of {self.name}") if len(starts) > 1 else starts:
            chosen = torch.from_numpy(order[start : start + BATCH_SIZE])
            own = without_padding(answers[chosen], NO_TOKEN).to(device)
            found, has = self.outputs(chosen, own, labels=False)
            best, ids, others = likeliest(found, k)
            for place, row in enumerate(chosen[has.cpu()].tolist()):
                n = lengths[row]
                places[row], count = count, count + 1
                known.append(answers[row, :n].numpy())
                for writer, values in ((numbers, ids), (logits, best), (rest, others)):
                    writer.append(values[place, :n].cpu().numpy())
        for writer in (known, numbers, logits, rest):
            writer.close()


def labels_of(targets: Tensor, present: Tensor) -> Tensor:
    """Return answers (N, A), -1 in rows without a label."""
    return targets.where(present[:, None], NO_TOKEN)


def token_count(modality: PromptModality) -> int:
    """Return the ids that stand for a token."""
    return 1 + max(modality.core.get_vocab().values())


def array_digest(array: np.ndarray) -> str:
    """Return a digest of whole numbers."""
    return hashlib.sha256(np.ascontiguousarray(array, np.int64).tobytes()).hexdigest()


def likeliest(logits: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return log p and ids of the k most probable tokens, and log of the others' sum.

    Args:
        logits: (..., V).
        k: 1 <= k <= V.

    Returns:
        (..., k), (..., k) and (...), the last of -inf where there are no others.
    """
    logs = logits.float().log_softmax(dim=-1)
    best, ids = logs.topk(k, dim=-1)
    others = logs.scatter(-1, ids, -math.inf).logsumexp(dim=-1)
    return best, ids, others


def spread(best: Tensor, ids: Tensor, others: Tensor, tokens: int) -> Tensor:
    """Undo ``likeliest``: return log p (..., V), the others' probability evenly spread.

    Args:
        best, ids, others: of ``likeliest``.
        tokens: V.
    """
    count = tokens - best.shape[-1]
    even = others - math.log(count) if count else torch.zeros_like(others)
    return even[..., None].expand(*others.shape, tokens).scatter(-1, ids, best)


class AnswerTable:
    """A teacher's most probable tokens at the labels' tokens, by row.

    Args:
        folder: that an ``AnswerTeacher`` filled.
        tokens: ids of the tokenizer.
    """

    def __init__(self, folder: Path, tokens: int) -> None:
        arrays = FileArrays(folder)
        self.tokens = tokens
        self.places = arrays.get("places")
        self.answers = arrays.get_ragged("answers")
        self.arrays = [arrays.get_ragged(name) for name in ("logits", "ids", "rest")]

    def rows(self, index: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p (n, A, V) and which rows have some, (N,) bool, as ``AnswerTeacher.outputs``.

        Raises:
            UsageError: the answers of a step aren't those that were kept.
        """
        there = torch.from_numpy(self.places[index.cpu().numpy()] >= 0).to(answers.device)
        has = there & (answers >= 0).any(dim=1)
        chosen = index[has].cpu()
        kept = self._padded(self.answers, chosen, NO_TOKEN).to(answers)
        if not torch.equal(kept, without_padding(answers[has], NO_TOKEN)):
            raise UsageError(
                "transfer.top_k keeps what a teacher says of the labels, and this step has other "
                "answers; set transfer.top_k=null, and it runs in every step"
            )
        parts = [self._padded(one, chosen, 0).to(answers.device) for one in self.arrays]
        return spread(parts[0], parts[1].long(), parts[2], self.tokens), has

    def _padded(self, array: RaggedArray, index: Tensor, padding: int) -> Tensor:
        """Return rows (n, A, ...), the shorter ones padded."""
        rows = [torch.tensor(array[place]) for place in self.places[index.numpy()]]
        if not rows:
            return torch.tensor(array.flat[:0])[None][:0]
        return pad_sequence(rows, batch_first=True, padding_value=padding)


class AnswerOutputs(TeacherOutputs):
    """What a teacher says of the tokens of the answers that a step shows.

    Args:
        teacher: at the data set.
    """

    def __init__(self, teacher: AnswerTeacher) -> None:
        self.teacher = teacher

    def outputs(self, step: TrainingStep) -> tuple[Tensor, Tensor]:
        """Return logits (n, A, V), of zeros where there are none, and which rows have some."""
        batch = step.batch.batches[self.teacher.dataset]
        answers = labels_of(*batch.shown(self.teacher.task))
        widest = step.outputs[self.teacher.task].shape[1]
        labels = self.teacher.task not in batch.answers
        found, has = self.teacher.outputs(batch.index, answers[:, :widest], labels)
        if not len(found):
            return found.new_zeros((len(has), widest, 1)), has
        full = found.new_zeros((len(has), widest, found.shape[2]))
        full[has] = functional.pad(found, (0, 0, 0, widest - found.shape[1]))
        return full, has

    def complete(self) -> bool:
        """Return False: rows have answers in some steps, and in others none."""
        return False
