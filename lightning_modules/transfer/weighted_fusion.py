"""Each task weighs what several frozen sources make of its rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, einsum, nn

from lightning_modules.transfer.source_fusion import FrozenSourceTransfer, SourceMixer
from pollinate.errors import UsageError


class WeightedMixer(SourceMixer):
    """sum_s a_s z_s, a = softmax(w) with learnt w, the same for all rows; z_own = x.

    Args:
        dim, widths: as for ``SourceMixer``.
        own: a_own at the start; the sources share the rest.

    Examples:
        >>> import torch, pollinate as po
        >>> mixer = po.transfer.WeightedMixer(dim=4, widths={"photos": 6}, own=0.75)
        >>> mixed, weights = mixer(torch.ones(2, 4), {"photos": torch.ones(2, 6)})
        >>> mixed.shape
        torch.Size([2, 4])
        >>> weights.detach().round(decimals=4)
        tensor([[0.7500, 0.2500],
                [0.7500, 0.2500]])
    """

    def __init__(self, dim: int, widths: Mapping[str, int], own: float) -> None:
        super().__init__(dim, widths)
        start = torch.zeros(1 + len(widths))
        start[0] = math.log(own * len(widths) / (1 - own))
        self.logits = nn.Parameter(start)

    def forward(self, rows: Tensor, source_features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        weights = self.logits.softmax(dim=0).expand(len(rows), -1)
        mixed = einsum("ns,nsd->nd", weights.to(rows.dtype), self.candidates(rows, source_features))
        return mixed, weights


class WeightedFusion(FrozenSourceTransfer):
    """Heads read sum_s a_s z_s: ``WeightedMixer`` for each task.

    Source: a softmax-weighted sum of representations, Peters et al. 2018, "Deep contextualized word
    representations", equation 1, with sources in place of layers, and without a common factor.

    Args:
        sources, tasks: as for ``FrozenSourceTransfer``.
        own: weight of this run's own representation at the start, in (0, 1).

    Raises:
        UsageError: as for ``FrozenSourceTransfer``, or own is out of range.

    Examples:
        >>> import pollinate as po
        >>> transfer = po.transfer.WeightedFusion({"first": "runs/first"}, own=0.75)
        >>> model = po.MultiTaskModule(data, transfer=transfer, sources=po.SourceOpener())
        >>> trainer.fit(model, data)
        >>> round(trainer.callback_metrics["source/mood/first"].item(), 1)
        0.3
    """

    mixer: ClassVar[type[SourceMixer]] = WeightedMixer

    def __init__(
        self,
        sources: Mapping[str, str],
        tasks: Sequence[str] | None = None,
        own: float = 0.5,
    ) -> None:
        super().__init__(sources, tasks)
        if not 0 < own < 1:
            raise UsageError(f"transfer.own must be in (0, 1), got {own}")
        self.own = own

    def options(self) -> dict[str, Any]:
        return {"own": self.own}
