"""What an answer is computed from: points between a row and nothing, and what each piece adds.

A modality's pieces are words (P,), pixels (H, W) or cells of a spectrogram (L, F).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from datamodules.modalities.forms import modality_of

Pieces = Mapping[str, Sequence[Tensor]]  # {modality: each row's pieces, one number a piece}


@dataclass
class Part(ABC):
    """A tensor that rows' answers are computed from.

    values: (N, ...) of N rows; nothing: the same shape, of rows that say nothing.
    """

    values: Tensor
    nothing: Tensor

    @abstractmethod
    def shares(self, slopes: Tensor, rows: Tensor) -> Pieces:
        """Return what each piece adds to answers.

        Args:
            slopes: (n, ...), an answer's derivatives by the values, the mean between nothing and
                the row.
            rows: (n,) int64, which rows these are.
        """

    @abstractmethod
    def blended(self, kept: Pieces, rows: Tensor) -> Tensor:
        """Return rows of which pieces are left out: (n, ...).

        Args:
            kept: {modality: (pieces,) of each row, 1 for one that is kept, 0 for one that isn't};
                a modality that isn't there is kept.
            rows: (n,) int64, which rows these are.
        """

    def change(self, slopes: Tensor, rows: Tensor) -> Tensor:
        """Return slopes times the values' differences from nothing, 0 where there is no value."""
        return (slopes * (self.values[rows] - self.nothing[rows])).nan_to_num(0.0)


@dataclass
class PicturePart(Part):
    """Pictures (N, C, H, W), in one form. Nothing is a picture of its mean colour."""

    form: str

    @classmethod
    def of(cls, form: str, values: Tensor) -> PicturePart:
        return cls(values, values.mean(dim=(2, 3), keepdim=True).expand_as(values), form)

    def shares(self, slopes: Tensor, rows: Tensor) -> Pieces:
        return {modality_of(self.form): list(self.change(slopes, rows).sum(dim=1))}

    def blended(self, kept: Pieces, rows: Tensor) -> Tensor:
        values, modality = self.values[rows], modality_of(self.form)
        if modality not in kept:
            return values
        mask = torch.stack([coarsened(one, values.shape[2:]) for one in kept[modality]])
        return torch.lerp(self.nothing[rows], values, mask.to(values)[:, None])


@dataclass
class SoundPart(Part):
    """Frames (N, L, F), in one form, NaN beyond a row's end. Nothing is a row's mean cell."""

    form: str
    lengths: Sequence[int]

    @classmethod
    def of(cls, form: str, values: Tensor) -> SoundPart:
        real = ~values.isnan()
        mean = values.nanmean(dim=(1, 2), keepdim=True).expand_as(values)
        lengths = real.any(dim=2).sum(dim=1).tolist()
        return cls(values, mean.where(real, values), form, lengths)

    def shares(self, slopes: Tensor, rows: Tensor) -> Pieces:
        change = self.change(slopes, rows)
        lengths = [self.lengths[row] for row in rows.tolist()]
        found = [own[:length] for own, length in zip(change, lengths, strict=True)]
        return {modality_of(self.form): found}

    def blended(self, kept: Pieces, rows: Tensor) -> Tensor:
        values, modality = self.values[rows], modality_of(self.form)
        if modality not in kept:
            return values
        mask = torch.ones_like(values)
        for row, (place, own) in enumerate(zip(rows.tolist(), kept[modality], strict=True)):
            length = self.lengths[place]
            mask[row, :length] = coarsened(own, (length, values.shape[2]))
        return torch.lerp(self.nothing[rows], values, mask)


TEXT = "text"


@dataclass
class LayerPart(Part):
    """What a layer of the network gives, in whose place something else can be put."""

    layer: nn.Module


@dataclass
class TokenPart(LayerPart):
    """Vectors of tokens (N, L, E).

    tokens: N of (L, P), the share of each token that is of each piece; tokens of no piece are the
        same in rows that say nothing.
    pairs: whether a vector is of its token and of the one before it, half and half.
    """

    tokens: Sequence[Tensor]
    pairs: bool

    def shares(self, slopes: Tensor, rows: Tensor) -> Pieces:
        change = self.change(slopes, rows).sum(dim=-1)
        found = [
            self._halved(own[: len(tokens)], tokens).to(tokens) @ tokens
            for own, tokens in zip(change, self._tokens(rows), strict=True)
        ]
        return {TEXT: found}

    def blended(self, kept: Pieces, rows: Tensor) -> Tensor:
        values, nothing = self.values[rows], self.nothing[rows]
        if TEXT not in kept:
            return values
        mask = values.new_ones(values.shape[:2])
        for row, (own, tokens) in enumerate(zip(kept[TEXT], self._tokens(rows), strict=True)):
            word = tokens.sum(dim=1)
            found = (tokens @ own.to(tokens)) + (1 - word)
            if self.pairs:
                both = torch.where(word[:-1] > 0, (found[1:] + found[:-1]) / 2, found[1:])
                found = torch.cat([found[:1], both])
            mask[row, : len(tokens)] = found.to(mask)
        return torch.lerp(nothing, values, mask[..., None])

    def _tokens(self, rows: Tensor) -> list[Tensor]:
        return [self.tokens[row] for row in rows.tolist()]

    def _halved(self, change: Tensor, tokens: Tensor) -> Tensor:
        """Give half of what is a pair's to the token before, if that is of a piece."""
        if not self.pairs or len(change) < 2:
            return change
        half = torch.where(tokens.sum(dim=1)[:-1] > 0, change[1:] / 2, 0.0)
        return change - functional.pad(half, (1, 0)) + functional.pad(half, (0, 1))


@dataclass
class AdditivePart(LayerPart):
    """What a linear model gives, (N, ...) of O numbers a row: each piece's share is known exactly.

    added: {modality: N of (pieces, O)}, whose sums are the values less nothing.
    """

    added: Mapping[str, Sequence[Tensor]]

    def shares(self, slopes: Tensor, rows: Tensor) -> Pieces:
        flat = slopes.reshape(len(rows), -1)
        return {
            modality: [added[row] @ own for row, own in zip(rows.tolist(), flat, strict=True)]
            for modality, added in self.added.items()
        }

    def blended(self, kept: Pieces, rows: Tensor) -> Tensor:
        found = self.values[rows].clone()
        for modality, added in self.added.items():
            masks = kept.get(modality, ())
            for place, (row, mask) in enumerate(zip(rows.tolist(), masks, strict=False)):
                left_out = 1 - coarsened(mask, added[row].shape[:-1]).to(added[row])
                lost = torch.tensordot(left_out, added[row], dims=left_out.dim())
                found[place] -= lost.reshape(found[place].shape)
        return found


def coarsened(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the means of a map's cells: (H, W) -> (h, w); of the same shape, as they are."""
    if values.shape == torch.Size(shape):
        return values
    height, width = shape
    return functional.adaptive_avg_pool2d(values[None].float(), (height, width))[0]


def spread(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Share each cell's value out over the finer cells in it: (h, w) -> (H, W), of the same sum."""
    if values.shape == torch.Size(shape):
        return values
    places = [
        torch.arange(fine, device=values.device) * coarse // fine
        for coarse, fine in zip(values.shape, shape, strict=True)
    ]
    counts = [own.bincount(minlength=n) for own, n in zip(places, values.shape, strict=True)]
    each = values / torch.outer(*counts).clamp(min=1)
    return each[places[0]][:, places[1]]


def finest(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a map that is nowhere coarser than either of two."""
    return tuple(max(sides) for sides in zip(first, second, strict=True))


def added_up(parts: Sequence[Pieces]) -> dict[str, list[Tensor]]:
    """Return the sums of what pieces add by each part; maps have the finest cells of all."""
    found: dict[str, list[Tensor]] = {}
    for part in parts:
        for modality, rows in part.items():
            before = found.get(modality)
            if before is None:
                found[modality] = list(rows)
                continue
            shapes = [finest(a.shape, b.shape) for a, b in zip(before, rows, strict=True)]
            found[modality] = [
                spread(a, shape) + spread(b, shape)
                for a, b, shape in zip(before, rows, shapes, strict=True)
            ]
    return found
