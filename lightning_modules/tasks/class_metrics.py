"""Metrics of classes whose memory is linear in the number of classes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassConfusionMatrix

UNLABELLED = -1  # a target that says nothing


def answers_and_targets(preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the labelled rows' class numbers: (M,), (M,) int64.

    Args:
        preds: class numbers (N, ...), or logits (N, C).
        target: class numbers (N, ...), -1 where there is no label.
    """
    answers = preds.argmax(dim=1) if preds.ndim > target.ndim else preds
    answers, wanted = answers.flatten().long(), target.flatten().long()
    labelled = wanted != UNLABELLED
    return answers[labelled], wanted[labelled]


class ClassCounts(Metric):
    """By class: rows that have it, that were answered it, and both.

    Args:
        classes: C, their number.
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        for name in ("right", "answered", "wanted"):
            self.add_state(name, torch.zeros(classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.right: Tensor
        self.answered: Tensor
        self.wanted: Tensor

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add rows; see ``answers_and_targets``."""
        answers, wanted = answers_and_targets(preds, target)
        self.right += torch.bincount(wanted[answers == wanted], minlength=self.classes)
        self.answered += torch.bincount(answers, minlength=self.classes)
        self.wanted += torch.bincount(wanted, minlength=self.classes)


class MacroF1(ClassCounts):
    """Mean of 2 right / (answered + wanted) over the classes that are there or were answered."""

    def compute(self) -> Tensor:
        total = self.answered + self.wanted
        return mean_where(2 * self.right.double() / total, total > 0)


class MeanIoU(ClassCounts):
    """Mean of right / (answered + wanted - right) over the same classes as ``MacroF1``."""

    def compute(self) -> Tensor:
        union = self.answered + self.wanted - self.right
        return mean_where(self.right.double() / union, union > 0)


def mean_where(values: Tensor, there: Tensor) -> Tensor:
    """Return the mean of some values, 0 of none: (C,), (C,) bool -> ()."""
    return values.where(there, 0.0).sum() / there.sum().clamp(min=1)


class QuadraticKappa(Metric):
    """Cohen's kappa with weights (i - j)^2 of classes in order: 1 - sum w_ij O_ij / sum w_ij E_ij.

    sum w_ij O_ij = sum_r (z_r - y_r)^2, and sum w_ij E_ij = sum_r z_r^2 + y_r^2 - 2/n sum_r z_r
    sum_r y_r, of rows r: no table of pairs is needed. NaN if all rows have and get one class.
    Source: Cohen 1968, "Weighted kappa".
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self) -> None:
        super().__init__()
        for name in ("rows", "answers", "targets", "squares", "errors"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.rows: Tensor
        self.answers: Tensor  # sum z
        self.targets: Tensor  # sum y
        self.squares: Tensor  # sum z^2 + y^2
        self.errors: Tensor  # sum (z - y)^2

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add places in the order (N,)."""
        answers, wanted = answers_and_targets(preds, target)
        self.rows += len(wanted)
        self.answers += answers.sum()
        self.targets += wanted.sum()
        self.squares += answers.square().sum() + wanted.square().sum()
        self.errors += (answers - wanted).square().sum()

    def compute(self) -> Tensor:
        chance = self.squares - 2 * self.answers.double() * self.targets / self.rows.clamp(min=1)
        return 1 - self.errors / chance


class Confusions(NamedTuple):
    """Which of many classes are taken for which.

    wanted, right: (C,) rows of each class, and those that were answered right.
    pairs: (P, 3) true class, predicted class, rows; the most frequent first.
    missed: () rows that a pair may have had besides; 0: all pairs are there.
    """

    wanted: Tensor
    right: Tensor
    pairs: Tensor
    missed: Tensor

    def cpu(self) -> Confusions:
        """Return the same in main memory."""
        return Confusions(*(part.cpu() for part in self))

    @classmethod
    def of_matrix(cls, matrix: Tensor) -> Confusions:
        """Return those of a confusion matrix (C, C), row = true class."""
        wrong = matrix - torch.diag(matrix.diagonal())
        true, predicted = wrong.nonzero(as_tuple=True)
        pairs = torch.stack([true, predicted, wrong[true, predicted]], dim=1)
        order = pairs[:, 2].argsort(descending=True, stable=True)
        return cls(matrix.sum(dim=1), matrix.diagonal(), pairs[order], torch.tensor(0))


ConfusionCounts = Tensor | Confusions
MANY = 256  # classes, above which not all pairs of them are counted
PAIRS_PER_CLASS = 32  # that are counted at least


def confusion_metric(classes: int) -> Metric:
    """Return a metric that computes a matrix (C, C), or ``Confusions`` of many classes."""
    if classes > MANY:
        return FrequentConfusions(classes)
    return MulticlassConfusionMatrix(classes, ignore_index=UNLABELLED, validate_args=False)


def most_frequent(keys: Tensor, counts: Tensor, size: int) -> Tensor:
    """Return the most frequent keys of a list in which keys come several times: (1 + size, 2).

    Row 0 is (0, m): a key that is not there, or is there with c, had at most m, or c + m. Counts
    are exact, and m is 0, as long as there are no more than ``size`` keys. Else the count of the
    first that finds no place is taken from all: a key of more than 1 / (size + 1) of all rows is
    there. Source: Misra and Gries 1982; Agarwal et al. 2012, section 2 (joined summaries).

    Args:
        keys: (N,) whole numbers >= 0.
        counts: (N,) of each; those of 0 are places without a key.
    """
    there = counts > 0
    distinct, places = torch.unique(keys[there], return_inverse=True)
    sums = torch.zeros_like(distinct).scatter_add_(0, places, counts[there])
    table = torch.zeros(1 + size, 2, dtype=torch.int64, device=keys.device)
    if len(distinct) > size:
        cut = sums.sort(descending=True).values[size]
        distinct, sums = distinct[sums > cut], (sums - cut)[sums > cut]
        table[0, 1] = cut
    table[1 : 1 + len(distinct)] = torch.stack([distinct, sums], dim=1)
    return table


def joined_tables(tables: Tensor) -> Tensor:
    """Return one table of several processes' (R, 1 + size, 2)."""
    entries = tables[:, 1:].flatten(0, 1)
    found = most_frequent(entries[:, 0], entries[:, 1], tables.shape[1] - 1)
    found[0, 1] += tables[:, 0, 1].sum()
    return found


class FrequentConfusions(ClassCounts):
    """``Confusions`` in memory that is linear in the classes.

    Args:
        classes: C, their number.
    """

    higher_is_better = None  # type: ignore[assignment]  # no number

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        table = torch.zeros(1 + PAIRS_PER_CLASS * classes, 2, dtype=torch.int64)
        self.add_state("table", table, dist_reduce_fx=joined_tables)
        self.table: Tensor  # see ``most_frequent``; a key is C times the true class and the other

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add rows; see ``answers_and_targets``."""
        super().update(preds, target)
        answers, wanted = answers_and_targets(preds, target)
        wrong = answers != wanted
        keys = wanted[wrong] * self.classes + answers[wrong]
        known = self.table[1:]
        found = most_frequent(
            torch.cat([known[:, 0], keys]),
            torch.cat([known[:, 1], torch.ones_like(keys)]),
            len(known),
        )
        found[0, 1] += self.table[0, 1]
        self.table = found

    def compute(self) -> Confusions:
        known = self.table[1:]
        known = known[known[:, 1] > 0]
        known = known[known[:, 1].argsort(descending=True, stable=True)]
        pairs = torch.stack(
            [known[:, 0] // self.classes, known[:, 0] % self.classes, known[:, 1]], dim=1
        )
        return Confusions(self.wanted, self.right, pairs, self.table[0, 1])
