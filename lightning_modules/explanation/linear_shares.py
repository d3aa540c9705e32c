"""What each piece of a row adds to the answer of a linear model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from datamodules.batch import Batch
from datamodules.modalities.text_pieces import TextPieces
from lightning_modules.descriptors import DESCRIPTOR_CELLS, DESCRIPTORS
from lightning_modules.linear_network import DescriptorModel, LinearModel
from lightning_modules.views import TEXT
from lightning_modules.wide_path import WidePath

Shares = dict[str, list[Tensor]]  # {modality: each row's (pieces, K) or (cells, cells, K)}


def term_shares(path: WidePath, batch: Batch, texts: Sequence[TextPieces]) -> list[Tensor]:
    """Return what each piece of the texts adds to the columns: N of (P, K).

    A term's part x_j W_j is shared out equally over its occurrences, and that of an occurrence over
    the pieces that its characters are of, so that nothing is lost.
    """
    found = []
    for text, terms in zip(texts, batch.terms[TEXT], strict=True):
        occurrences, shares = text.terms()
        number = terms[terms[:, 1] > 0, 0]
        parts = path.contributions(terms[terms[:, 1] > 0][None])[0]
        place = torch.searchsorted(number, torch.from_numpy(occurrences.numbers).to(number))
        counts = place.bincount(minlength=len(number)).clamp(min=1)
        each = parts / counts[:, None]
        found.append(torch.from_numpy(shares.T.copy()).to(each) @ each[place])
    return found


def linear_shares(
    model: LinearModel, batch: Batch, texts: Sequence[TextPieces]
) -> tuple[Shares, Tensor, Tensor]:
    """Return what each piece adds to a linear model's columns, the columns, and those of nothing.

    Returns:
        {modality: N of (pieces, K)}; (N, K); and b (K,).
    """
    bias = model.words.bias
    columns = model.words.read(batch)
    found: Shares = {}
    if texts and TEXT in batch.terms:
        found[TEXT] = term_shares(model.words, batch, texts)
    for modality, part in model.described.items():
        table = cast("DescriptorModel", part)
        inputs = batch.inputs.get(modality)
        if inputs is not None and len(inputs) and len(table.table):
            values = table.values(DESCRIPTORS[modality](inputs))
            each = values[..., None] * table.table
            columns = columns + each.sum(dim=1)
            found[modality] = list(DESCRIPTOR_CELLS[modality](each))
    return found, columns, bias
