"""One vector a word."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from datamodules.modalities.text import BEYOND
from lightning_modules.features import Features
from lightning_modules.views.base import Seen, View
from pipeline.errors import UsageError

TEXT = "text"
FAINT = 1e-6


class WordView(View):
    """The features of each word's first token; the trunk takes every word as a row of its own."""

    words = True
    reads_tokens_of = (TEXT,)

    def groups(self, seen: Seen) -> dict[str, Features]:
        """Return the features of all words that have a token, pooled: (number of words, D)."""
        sequence = seen.by_modality[TEXT].sequence
        if sequence is None:
            raise UsageError(
                "encoder.text gives no features of tokens, which a task that labels words needs; "
                "choose another, such as encoder/text=conv"
            )
        row, word = places(seen).ge(0).nonzero(as_tuple=True)
        return {"words": Features(sequence[row, places(seen)[row, word]])}

    def output(self, head: nn.Module, rows: Tensor, seen: Sequence[Seen]) -> Tensor:
        """Return (N, W, C), 0 beyond a row's last word.

        A word without a token, because it was cut off, gets the faintest vote for the first class:
        it counts as answered so, and nothing is learnt from it.
        """
        outputs = head(rows)
        widest = max(places(one).shape[1] for one in seen)
        tables, start = [], 0
        for one in seen:
            has = one.batch.has.get(TEXT)
            found = functional.pad(places(one), (0, widest - places(one).shape[1]), value=BEYOND)
            spread = found.new_full((one.size, widest), BEYOND)
            spread[slice(None) if has is None else has] = found
            real = spread >= 0
            table = outputs.new_zeros((*spread.shape, outputs.shape[-1]))
            stop = start + int(real.sum())
            table[..., 0] = FAINT * (spread == -1)
            tables.append(table.masked_scatter(real[..., None], outputs[start:stop]))
            start = stop
        return torch.cat(tables)


def places(seen: Seen) -> Tensor:
    """Return where the words' first tokens are: (N_text, W), -1 where there is none."""
    return seen.batch.words[TEXT]
