"""Each task attends to what several frozen sources make of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, einsum, nn

from lightning_modules.transfer.source_fusion import FrozenSourceTransfer, SourceMixer


class AttentionMixer(SourceMixer):
    """x + sum_s a_s V z_s, a = softmax_s(Q x . K z_s / sqrt D); z_own = x.

    V starts as the identity. Source: Pfeiffer et al. 2021, "AdapterFusion", section 3.2; there it
    is in each layer of a transformer, z_s are what adapters of tasks make, the target's own among
    them, and scores aren't divided by sqrt D.

    Args:
        dim, widths: as for ``SourceMixer``.

    Examples:
        >>> import torch, pollinate as po
        >>> mixer = po.transfer.AttentionMixer(dim=4, widths={"photos": 6})
        >>> mixed, weights = mixer(torch.ones(2, 4), {"photos": torch.ones(2, 6)})
        >>> mixed.shape, weights.shape, weights.sum(dim=1).detach().round(decimals=4)
        (torch.Size([2, 4]), torch.Size([2, 2]), tensor([1., 1.]))
    """

    def __init__(self, dim: int, widths: Mapping[str, int]) -> None:
        super().__init__(dim, widths)
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim, bias=False)
        nn.init.eye_(self.value.weight)

    def forward(self, rows: Tensor, source_features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        z = self.candidates(rows, source_features)
        scores = einsum("nd,nsd->ns", self.query(rows), self.key(z)) / rows.shape[1] ** 0.5
        weights = scores.softmax(dim=1)
        return rows + einsum("ns,nsd->nd", weights, self.value(z)), weights


class SourceAttention(FrozenSourceTransfer):
    """Heads read x + sum_s a_s V z_s: ``AttentionMixer`` for each task.

    Args:
        sources, tasks: as for ``FrozenSourceTransfer``.

    Raises:
        UsageError: as for ``FrozenSourceTransfer``.

    Examples:
        >>> import pollinate as po
        >>> transfer = po.transfer.SourceAttention({"first": "runs/first"}, tasks=["mood"])
        >>> model = po.MultiTaskModule(data, transfer=transfer, sources=po.SourceOpener())
        >>> trainer.fit(model, data)
        >>> sorted(name for name in trainer.callback_metrics if name.startswith("source"))
        ['source/mood/first', 'source/mood/own', 'source_load/mood/first', 'source_load/mood/own']
    """

    mixer: ClassVar[type[SourceMixer]] = AttentionMixer

    def __init__(self, sources: Mapping[str, str], tasks: Sequence[str] | None = None) -> None:
        super().__init__(sources, tasks)

    def options(self) -> dict[str, Any]:
        return {}
