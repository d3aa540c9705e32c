"""Features from which a linear map predicts the source's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from lightning_modules.encoders.pooling import masked_mean
from lightning_modules.hooks import TrainingStep
from lightning_modules.transfer.feature_pairs import FeaturePair, match_grids
from lightning_modules.transfer.feature_transfer import (
    REPRESENTATION,
    SingleSourceTransfer,
    mean_over_rows,
)


class Hints(SingleSourceTransfer):
    """mean_d (u_d - r(v)_d)^2, where r is a learnt linear map of this run's features v.

    u: the source's. Of tokens and cells, the mean: r is the same for all, as a convolution of size
    1; the larger of two grids is averaged down to the other's sides first. Source: Romero et al.
    2015, "FitNets: hints for thin deep nets", equation 3; there it is half the sum over d, which
    would make the weight depend on the width, r is a convolution as large as the difference of the
    grids, and hints come first, and the task's loss after them: set ``until`` for that.

    Args:
        source, at, modalities, tasks: as for ``FeatureSelection``; at is pooled, sequence, grid or
            representation.
        weight, until: as for ``FeatureTransfer``.

    Raises:
        UsageError: an option is out of range.

    Examples:
        >>> import pollinate as po
        >>> transfer = po.transfer.Hints("runs/first")
        >>> model = po.MultiTaskModule(data, dim=32, transfer=transfer, sources=po.SourceOpener())
        >>> model.transfer.regressors["text"]  # the source is 16 wide
        Linear(in_features=32, out_features=16, bias=True)
    """

    kinds: ClassVar[tuple[str, ...]] = ("pooled", "sequence", "grid", REPRESENTATION)

    def __init__(
        self,
        source: str,
        at: str | None = None,
        modalities: Sequence[str] | None = None,
        tasks: Mapping[str, str] | Sequence[str] | None = None,
        weight: float = 1.0,
        until: int | None = None,
    ) -> None:
        super().__init__(source, at, modalities, tasks, weight, until)
        self.regressors = nn.ModuleDict()

    def prepare_pair(self, name: str, pair: FeaturePair) -> None:
        """Make r, at first the identity as far as the widths allow."""
        width, other = (vectors_of(features).shape[-1] for features in (pair.own, pair.other))
        self.regressors[name] = regressor = nn.Linear(width, other)
        nn.init.eye_(regressor.weight)
        nn.init.zeros_(regressor.bias)

    def distance(self, name: str, pair: FeaturePair, step: TrainingStep) -> Tensor:
        regressor = self.regressors[name]
        assert isinstance(regressor, nn.Linear)
        mine, theirs = pair.own, pair.other
        if mine.dim() == 4:
            mine, theirs = match_grids(mine, theirs)
        own = regressor(vectors_of(mine).to(regressor.weight.dtype))
        found = hint_loss(own.to(mine.dtype), vectors_of(theirs), pair.mask)
        return mean_over_rows(found, pair, step)


def vectors_of(features: Tensor) -> Tensor:
    """Return the width last: (n, D, H, W) -> (n, H W, D); others are so."""
    return features.flatten(2).mT if features.dim() == 4 else features


def hint_loss(own: Tensor, other: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the mean square of the difference: (n, D) or (n, L, D) twice -> (n,).

    Args:
        own, other: of one shape.
        mask: (n, L) bool, True where tokens are real; None: all are.
    """
    squares = (own - other).square().mean(dim=-1)
    if squares.dim() == 1:
        return squares
    return squares.mean(dim=1) if mask is None else masked_mean(squares[..., None], mask)[:, 0]
