"""Sets of labels that miss few of those that apply."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lightning_modules.conformal.base import Coverage
from lightning_modules.conformal.class_sets import OptionSets


class LabelSets(OptionSets):
    """Labels with 1 - p_c <= t: on average a share c at least of a row's labels is among them.

    Rows without any label miss nothing, and don't count. ``per_class`` holds the share of each
    label's rows that miss it. Source: Angelopoulos et al. 2022, "Conformal risk control", section
    3.1; per label it is split conformal prediction on the rows that have the label.

    Args:
        classes: names of the C labels.
        empty: whether a set may be empty: there may be no label that applies.

    Examples:
        >>> import torch, pollinate as po
        >>> logits = torch.tensor([[2.0, -1.0, -4.0]]).repeat(100, 1)
        >>> target = torch.tensor([[1.0, 0.0, 0.0]] * 70 + [[1.0, 1.0, 0.0]] * 30)
        >>> sets = po.conformal.LabelSets(["food", "price", "staff"]).fit(logits, target)
        >>> [sets.answers(logits[:1], coverage=c)[0]["set"] for c in (0.8, 0.95)]
        [['food'], ['food', 'price']]
    """

    def __init__(self, classes: Sequence[str], empty: bool = True) -> None:
        super().__init__(classes, empty)

    def class_scores(self, output: Tensor) -> Tensor:
        return 1 - output.double().sigmoid()

    def row_scores(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        row, label = target.cpu().nonzero(as_tuple=True)
        scores = self.class_scores(output).cpu()[row, label]
        return scores, 1 / target.cpu().sum(dim=1)[row].double(), label

    def reached(
        self, output: Tensor, target: Tensor, coverage: float, per_class: bool = False
    ) -> Coverage:
        found, wanted = self.sets(output, coverage, per_class), target.bool()
        some = wanted.any(dim=1)
        share = (found & wanted).sum(dim=1)[some] / wanted.sum(dim=1)[some]
        return Coverage(share.double().mean().item(), found.sum(dim=1).double().mean().item())
