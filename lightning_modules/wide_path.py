"""The wide path: a linear model of a text's terms that reaches a task's output directly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from datamodules.batch import Batch
from datamodules.terms import WORD_TERMS
from lightning_modules.distributed import FixedBuffers
from lightning_modules.views import TEXT
from pollinate.errors import UsageError

ToOutput = Callable[[Tensor], Tensor]  # predicted columns (N, K) -> what they add to an output
FITTED = ("terms", "idf", "table", "bias", "scale")


class FittedBuffers(FixedBuffers):
    """A part whose buffers are fitted to data: their sizes are those of what is loaded."""

    fitted_names: ClassVar[tuple[str, ...]]

    def fill(self, values: Mapping[str, Tensor]) -> None:
        """Take over what was fitted: {name in ``fitted_names``: it}."""
        for name in self.fitted_names:
            own = getattr(self, name)
            setattr(self, name, values[name].to(own.device, own.dtype))

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *others: Any, **more: Any
    ) -> None:
        names = self.fitted_names
        saved = {n: state_dict[prefix + n] for n in names if prefix + n in state_dict}
        same = all(value.shape == getattr(self, name).shape for name, value in saved.items())
        if len(saved) == len(names) and not same:
            self.fill({name: torch.empty_like(value) for name, value in saved.items()})
        super()._load_from_state_dict(state_dict, prefix, *others, **more)


class WidePath(FittedBuffers):
    """Adds s f(b + sum_j x_j W_j) to a task's output, x the TF-IDF of a text's terms.

    x_j = (1 + log count_j) idf_j, words and characters each with norm 1. What is added comes from
    terms alone, and what the rest of the network adds corrects it. Source of the idea: Wide & Deep,
    Cheng et al. 2016; unlike there W isn't trained by gradients but fitted as a linear model is
    (``wide_fit``). It would know its training rows by heart, and leave the rest of the network
    nothing to learn: in training a row's columns come from linear models that were fitted without
    it (``Batch.held_out``), as stacking does (Wolpert 1992).

    Before it is fitted, or loaded from a checkpoint, it adds nothing. Its size is that of what is
    loaded.

    Args:
        task: its name.
        to_output: columns (N, K) -> (N, ...), f.
    """

    fitted_names = FITTED
    terms: Tensor  # (F,) int32, rising: the terms that training rows have
    idf: Tensor  # (F,)
    table: Tensor  # (F, K), W
    bias: Tensor  # (K,), b
    scale: Tensor  # (), s

    def __init__(self, task: str, to_output: ToOutput) -> None:
        super().__init__()
        self.task = task
        self.to_output = to_output
        self.register_buffer("terms", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("idf", torch.zeros(0))
        self.register_buffer("table", torch.zeros(0, 0))
        self.register_buffer("bias", torch.zeros(0))
        self.register_buffer("scale", torch.tensor(1.0))

    @property
    def fitted(self) -> bool:
        """Whether it adds anything."""
        return self.bias.numel() > 0

    def columns(self, found: Tensor) -> Tensor:
        """Return the columns of texts: (N, K).

        Args:
            found: (N, M, 2) int32, number and count of each of a text's terms; count 0 is padding.
        """
        if not len(self.terms) or not found.shape[1]:  # no row has a text
            return self.bias.expand(len(found), -1)
        place, weight = self.weights(found)
        summed = functional.embedding_bag(
            place, self.table, per_sample_weights=weight.to(self.table.dtype), mode="sum"
        )
        return summed + self.bias

    def contributions(self, found: Tensor) -> Tensor:
        """Return x_j W_j of each term of texts, whose sum is the columns less b: (N, M, K)."""
        if not len(self.terms):
            return self.table.new_zeros(*found.shape[:2], len(self.bias))
        place, weight = self.weights(found)
        return weight[..., None].to(self.table.dtype) * self.table[place]

    def weights(self, found: Tensor) -> tuple[Tensor, Tensor]:
        """Return where texts' terms are in ``terms``, and x_j, 0 for others: (N, M) each."""
        number, count = found[..., 0].contiguous(), found[..., 1]
        place = torch.searchsorted(self.terms, number).clamp(max=len(self.terms) - 1)
        known = (self.terms[place] == number) & (count > 0)
        weight = (1 + count.clamp(min=1).log()) * self.idf[place] * known
        of_word = number < WORD_TERMS
        for part in (of_word, ~of_word):
            length = (weight * part).norm(dim=1, keepdim=True)
            weight = torch.where(part & (length > 0), weight / length, weight)
        return place, weight

    def forward(self, batches: Sequence[Batch]) -> Tensor:
        """Return what is added to the task's output of rows, those of its data sets: (N, ...)."""
        if not self.fitted:
            return self.scale.new_zeros(())
        return self.scale * self.to_output(torch.cat([self.read(one) for one in batches]))

    def read(self, batch: Batch) -> Tensor:
        """Return the columns of one data set's rows, (N, K): those of a row without text are b.

        Raises:
            UsageError: the texts' terms weren't counted.
        """
        if self.task in batch.held_out:
            return batch.held_out[self.task].to(self.bias.dtype)
        if TEXT not in batch.modalities:
            return self.bias.expand(len(batch.index), -1)
        if TEXT not in batch.terms:
            raise UsageError(
                f"task {self.task} has a wide path, which needs the texts' terms in Batch.terms; "
                "rows of a MixedDataModule with modalities={'text': {'wide': True}} have them"
            )
        found = self.columns(batch.terms[TEXT])
        has = batch.has.get(TEXT)
        if has is None:
            return found
        return self.bias.repeat(len(has), 1).masked_scatter(has[:, None], found)
