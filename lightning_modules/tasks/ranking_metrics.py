"""Areas under ROC and precision-recall curves: exact of few rows, by rank of many."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchmetrics import Metric

ENTRIES = 1 << 21  # of all labels together
FEWEST, MOST = 1 << 10, 1 << 14  # entries of one label


class RankedScores(Metric):
    """Scores of the rows with and without each label, of which some stand for several rows.

    Rows are kept as they come until there is no room. Then rows that are neighbours by rank become
    one entry, with their mean score: positives among positives, negatives among negatives, so that
    with fewer positives than entries each stays as it is. Positives are divided evenly by rank;
    negatives by rank and by its logarithm, one half each, so that the first ones, on which
    precision depends, stay single.

    Args:
        labels: C, their number.
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.room = min(MOST, max(FEWEST, ENTRIES // labels))
        empty = torch.zeros((), dtype=torch.float64).expand(2, labels, self.room)
        self.add_state("entries", empty, dist_reduce_fx=side_by_side)
        self.add_state("filled", torch.zeros((), dtype=torch.int64), dist_reduce_fx="max")
        self.add_state("blended", torch.zeros(labels, 1, dtype=torch.int64), dist_reduce_fx="max")
        self.entries: Tensor  # (2, C, room): scores; rows, > 0 with the label, < 0 without
        self.filled: Tensor  # entries that are taken; of the others all rows are 0
        self.blended: Tensor  # (C, 1): 1 where an entry has positives of several scores
        self.reset()  # an expanded tensor takes no memory, and can't be written to

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add rows: scores, larger for the label, and 0 or 1: (N, C)."""
        rows = torch.stack([preds.double(), 2.0 * target.double() - 1.0]).mT
        for part in torch.split(rows, self.room // 2, dim=2):
            if int(self.filled) + part.shape[2] > self.room:
                half = self.room // 2
                self.blended |= distinct_positives(self.entries) > half // 2
                shorter = merged_by_rank(self.entries, half)
                self.entries = torch.zeros_like(self.entries)
                self.entries[:, :, : shorter.shape[2]] = shorter
                self.filled = torch.full_like(self.filled, shorter.shape[2])
            end = self.filled + part.shape[2]
            self.entries[:, :, self.filled : end] = part
            self.filled = end


def side_by_side(entries: Tensor) -> Tensor:
    """Return the entries of all processes: (R, 2, C, n) -> (2, C, R n)."""
    return entries.permute(1, 2, 0, 3).flatten(2)


def merged_by_rank(entries: Tensor, size: int) -> Tensor:
    """Return ``size`` entries a label for more: (2, C, n) -> (2, C, size)."""
    scores, rows = entries
    half = size // 2
    positives = neighbours_merged(scores, rows.clamp(min=0), half, 0.0)
    negatives = neighbours_merged(scores, (-rows).clamp(min=0), half, 0.5)
    negatives[1] *= -1
    return torch.cat([positives, negatives], dim=2)


def neighbours_merged(scores: Tensor, rows: Tensor, size: int, first: float) -> Tensor:
    """Return ``size`` entries of one kind, mean score and rows, for more: (2, C, size).

    Equal scores become one. If there are more than ``size`` others, entry k is of the rows whose
    share of what ranks higher is about k / size; in part ``first`` it is a share of log(1 + rank).

    Args:
        scores, rows: (C, n); of places without a row it is 0.
    """
    scores, rows = sorted_entries(torch.stack([scores, rows]))
    starts = starts_of_scores(scores)
    number = (starts & (rows > 0)).cumsum(dim=1) - 1  # of the distinct score
    total = rows.sum(dim=1, keepdim=True)
    higher = (rows.cumsum(dim=1) - rows).where(starts, 0.0).cummax(dim=1).values
    share = (1 - first) * higher / total.clamp(min=1)
    share = share + first * higher.log1p() / total.log1p().clamp(min=1)
    fits = number[:, -1:] < size
    place = torch.where(fits, number, (share * size).long()).clamp(0, size - 1)
    found = rows.new_zeros(2, len(rows), size)
    found[0].scatter_add_(1, place, scores * rows)
    found[1].scatter_add_(1, place, rows)
    found[0] /= found[1].clamp(min=1)
    return found


def starts_of_scores(scores: Tensor) -> Tensor:
    """Say which of sorted scores differ from the one before: (C, n) bool."""
    starts = torch.ones_like(scores, dtype=torch.bool)
    starts[:, 1:] = scores[:, 1:] != scores[:, :-1]
    return starts


def distinct_positives(entries: Tensor) -> Tensor:
    """Return how many different scores positives have: (2, C, n) -> (C, 1)."""
    scores, rows = sorted_entries(torch.stack([entries[0], entries[1].clamp(min=0)]))
    return (starts_of_scores(scores) & (rows > 0)).sum(dim=1, keepdim=True)


def sorted_entries(entries: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores and rows by falling score, places without rows last: (C, n), (C, n)."""
    scores, rows = entries
    order = scores.where(rows != 0, -math.inf).argsort(dim=1, descending=True, stable=True)
    return scores.gather(1, order), rows.gather(1, order)


def ranks(entries: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return, of each entry: positives, and rows that score higher or as high, and higher.

    All are (C, n): (positives, positives as high, negatives as high, negatives higher).
    """
    scores, rows = sorted_entries(entries)
    positives, negatives = rows.clamp(min=0), (-rows).clamp(min=0)
    last = torch.ones_like(rows, dtype=torch.bool)  # of those with the same score
    last[:, :-1] = (scores[:, 1:] != scores[:, :-1]) | (rows[:, 1:] == 0)
    first = last.roll(1, dims=1)
    first[:, 0] = True
    places = torch.arange(rows.shape[1], device=rows.device).expand_as(rows)
    end = places.where(last, rows.shape[1] - 1).flip(1).cummin(dim=1).values.flip(1)
    start = places.where(first, 0).cummax(dim=1).values
    above = negatives.cumsum(dim=1)
    return (
        positives,
        positives.cumsum(dim=1).gather(1, end),
        above.gather(1, end),
        (above - negatives).gather(1, start),
    )


class AUROC(RankedScores):
    """P(score of a row with the label > that of one without), equal ones count half; C = 1.

    NaN where all rows are of one kind. Source: Mann and Whitney 1947.
    """

    def __init__(self) -> None:
        super().__init__(1)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add rows: scores and 0 or 1: (N,)."""
        super().update(preds[:, None], target[:, None])

    def compute(self) -> Tensor:
        positives, _, as_high, higher = ranks(self.entries)
        negatives = -self.entries[1].clamp(max=0).sum()
        below = negatives - (as_high + higher) / 2
        return (positives * below).sum() / (positives.sum() * negatives)


class TwoClassAUROC(AUROC):
    """``AUROC`` of the second of two classes."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add rows: logits (N, 2) and class numbers (N,)."""
        logits = preds.double()
        super().update(logits[:, 1] - logits[:, 0], target)


class MeanAveragePrecision(RankedScores):
    """Mean over labels of sum_i p(i) / P, p(i) the precision down to the i-th of P positives.

    Labels that no row has are left out, NaN if that is all of them. Source: Manning, Raghavan and
    Schuetze 2008, section 8.4; of equal scores all rows count, as in scikit-learn.
    """

    def compute(self) -> Tensor:
        positives, found, as_high, _ = ranks(self.entries)
        # of an entry of several scores, the one in the middle: others are before and behind it
        found = found - self.blended * (positives - 1).clamp(min=0) / 2
        precision = found / (found + as_high).clamp(min=1)
        wanted = positives.sum(dim=1)
        by_label = (positives * precision).sum(dim=1) / wanted
        return by_label[wanted > 0].mean()
