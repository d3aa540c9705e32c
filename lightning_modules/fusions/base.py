"""The fusion contract: several modalities of a row become one vector."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from datamodules.features import Features
from pollinate.recipes import Buildable


class Fusion(nn.Module, metaclass=Buildable):
    """Puts the modalities of one data set's rows together; a row may lack some of them.

    Attributes:
        reads_tokens: whether it looks at more of ``Features`` than the pooled vectors.

    Examples:
        >>> import torch, pollinate as po
        >>> class First(po.fusions.Fusion):  # reads one modality, which no row lacks
        ...     def forward(self, features, has):
        ...         return next(iter(features.values())).pooled
        >>> rows = {"text": po.Features(torch.ones(2, 4)), "image": po.Features(torch.zeros(1, 4))}
        >>> has = {"text": torch.tensor([True, True]), "image": torch.tensor([False, True])}
        >>> First()(rows, has)
        tensor([[1., 1., 1., 1.],
                [1., 1., 1., 1.]])
    """

    given_later: ClassVar[frozenset[str]] = frozenset({"modalities", "dim"})

    reads_tokens: ClassVar[bool] = False

    @abstractmethod
    def forward(self, features: Mapping[str, Features], has: Mapping[str, Tensor]) -> Tensor:
        """Return one vector per row: (N, D).

        Args:
            features: {modality: features of the N_m rows that have it}.
            has: {modality: (N,) bool}, True where the row has it.
        """


def spread(rows: Tensor, has: Tensor, absent: Tensor) -> Tensor:
    """Give rows that lack a modality its absent vector: (N_m, D), (N,), (D,) -> (N, D)."""
    return absent.expand(len(has), -1).to(rows.dtype).masked_scatter(has[:, None], rows)
