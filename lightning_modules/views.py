"""Views: what a task reads of a dataset's encoded rows: one per row, cell, modality or word."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from datamodules.batch import Batch
from datamodules.features import Features
from datamodules.modalities.text import BEYOND
from pollinate.errors import UsageError


@dataclass
class EncodedDataset:
    """A data set's encoded rows.

    fused: features of all N rows.
    by_modality: {modality: features of the N_m rows that have it}.
    batch: what they were made from.
    """

    fused: Features
    by_modality: Mapping[str, Features]
    batch: Batch

    @property
    def size(self) -> int:
        """Number of rows N."""
        return len(self.batch.index)


class View(ABC):
    """Chooses what goes through the trunk for a task, and puts the head's outputs together.

    Attributes:
        words: whether ``Batch.words`` is needed.
        reads_tokens_of: modalities of which it looks at more than the pooled vectors.
        prompted: whether a language model answers the task's prompts, without trunk and head.
    """

    words: bool = False
    prompted: bool = False
    reads_tokens_of: tuple[str, ...] = ()

    @abstractmethod
    def groups(self, encoded: EncodedDataset) -> dict[str, Features]:
        """Return {group: features}: what the trunk takes as rows.

        "" stands for the rows as such.
        """

    @abstractmethod
    def output(self, head: nn.Module, rows: Tensor, encoded: Sequence[EncodedDataset]) -> Tensor:
        """Return the task's output (N, ...).

        Args:
            head: the task's output layer.
            rows: what the trunk made of all groups, one after the other.
            encoded: the task's data sets, in the same order.
        """


class RowView(View):
    """The rows' features."""

    def groups(self, encoded: EncodedDataset) -> dict[str, Features]:
        """Return the features of N rows."""
        return {"": encoded.fused}

    def output(self, head: nn.Module, rows: Tensor, encoded: Sequence[EncodedDataset]) -> Tensor:
        """Return the head's outputs (N, ...)."""
        output: Tensor = head(rows)
        return output


IMAGE = "image"


class GridView(View):
    """The encoder's grid of each picture; the trunk takes every cell as a row of its own."""

    reads_tokens_of = (IMAGE,)

    def groups(self, encoded: EncodedDataset) -> dict[str, Features]:
        """Return the features of all pictures' cells: (N_image H' W', D)."""
        return {"cells": Features(pixel_features(encoded).permute(0, 2, 3, 1).flatten(0, 2))}

    def output(self, head: nn.Module, rows: Tensor, encoded: Sequence[EncodedDataset]) -> Tensor:
        """Return (N, ..., H', W'), 0 for a row without a picture.

        Args:
            head: takes the cells as pictures (N, D, H', W').
            rows: what the trunk made of all cells, picture by picture.
            encoded: the data sets.
        """
        tables, start = [], 0
        for one in encoded:
            count, _, height, width = pixel_features(one).shape
            stop = start + count * height * width
            cells = rows[start:stop].reshape(count, height, width, rows.shape[1])
            found = head(cells.permute(0, 3, 1, 2))
            has = one.batch.has.get(IMAGE)
            if has is not None:
                full = found.new_zeros((one.size, *found.shape[1:]))
                found = full.index_put((has.nonzero()[:, 0],), found)
            tables.append(found)
            start = stop
        return torch.cat(tables)


def pixel_features(encoded: EncodedDataset) -> Tensor:
    """Return the pictures' features by cell: (N_image, D, H', W').

    Raises:
        UsageError: the encoder gives none.
    """
    found = encoded.by_modality[IMAGE].grid
    if found is None:
        raise UsageError(
            "encoder.image gives no grid of cells, which tasks that label pixels need; choose "
            "another, such as encoder/image=cnn, or a convolutional or vision transformer of "
            "encoder/image=timm"
        )
    return found


class PairView(View):
    """The rows' features by each of two modalities, before they are fused.

    Args:
        modalities: the two, in the order of the output.
    """

    def __init__(self, modalities: Sequence[str]) -> None:
        self.modalities = tuple(modalities)

    def groups(self, encoded: EncodedDataset) -> dict[str, Features]:
        """Return each modality's features of N_m rows."""
        return {name: encoded.by_modality[name] for name in self.modalities}

    def output(self, head: nn.Module, rows: Tensor, encoded: Sequence[EncodedDataset]) -> Tensor:
        """Return (N, 2, E), 0 where a row lacks the modality.

        Args:
            head: takes the rows of one modality and the modality's place.
            rows: for each data set the rows of the first, then of the second modality.
            encoded: the data sets.
        """
        tables, start = [], 0
        for one in encoded:
            sides = []
            for side, name in enumerate(self.modalities):
                stop = start + len(one.by_modality[name].pooled)
                found = head(rows[start:stop], side)
                has = one.batch.has.get(name)
                if has is not None:
                    full = found.new_zeros((one.size, found.shape[-1]))
                    found = full.masked_scatter(has[:, None], found)
                sides.append(found)
                start = stop
            tables.append(torch.stack(sides, dim=1))
        return torch.cat(tables)


TEXT = "text"
FAINT = 1e-6


class WordView(View):
    """The features of each word's first token; the trunk takes every word as a row of its own."""

    words = True
    reads_tokens_of = (TEXT,)

    def groups(self, encoded: EncodedDataset) -> dict[str, Features]:
        """Return the features of all words that have a token, pooled: (number of words, D)."""
        sequence = encoded.by_modality[TEXT].sequence
        if sequence is None:
            raise UsageError(
                "encoder.text gives no features of tokens, which a task that labels words needs; "
                "choose another, such as encoder/text=conv"
            )
        row, word = word_positions(encoded).ge(0).nonzero(as_tuple=True)
        return {"words": Features(sequence[row, word_positions(encoded)[row, word]])}

    def output(self, head: nn.Module, rows: Tensor, encoded: Sequence[EncodedDataset]) -> Tensor:
        """Return (N, W, C), 0 beyond a row's last word.

        A word without a token, because it was cut off, gets the faintest vote for the first class:
        it counts as answered so, and nothing is learnt from it.
        """
        return self.by_row(head(rows), encoded)

    def by_row(self, outputs: Tensor, encoded: Sequence[EncodedDataset]) -> Tensor:
        """Put what the head made of all words together, (number of words, C) -> (N, W, C)."""
        widest = max(word_positions(one).shape[1] for one in encoded)
        tables, start = [], 0
        for one in encoded:
            has = one.batch.has.get(TEXT)
            found = functional.pad(
                word_positions(one), (0, widest - word_positions(one).shape[1]), value=BEYOND
            )
            spread = found.new_full((one.size, widest), BEYOND)
            spread[slice(None) if has is None else has] = found
            real = spread >= 0
            table = outputs.new_zeros((*spread.shape, outputs.shape[-1]))
            stop = start + int(real.sum())
            table[..., 0] = FAINT * (spread == -1)
            tables.append(table.masked_scatter(real[..., None], outputs[start:stop]))
            start = stop
        return torch.cat(tables)


class ChainView(WordView):
    """Words whose head gives scores of them, and of transitions between neighbours' tags."""

    def output(self, head: nn.Module, rows: Tensor, encoded: Sequence[EncodedDataset]) -> Tensor:
        """Return (N, C + 2 + W, C): the transitions, the same in all rows, then the words."""
        scores, transitions = head(rows)
        return with_transitions(self.by_row(scores, encoded), transitions)


def with_transitions(scores: Tensor, transitions: Tensor) -> Tensor:
    """Put transitions (C + 2, C) before each row's scores: (N, W, C) -> (N, C + 2 + W, C)."""
    return torch.cat([transitions.expand(len(scores), -1, -1), scores], dim=1)


def word_positions(encoded: EncodedDataset) -> Tensor:
    """Return where the words' first tokens are: (N_text, W), -1 where there is none."""
    return encoded.batch.words[TEXT]
