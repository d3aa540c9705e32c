"""One vector a row."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lightning_modules.views.base import Seen, View


class RowView(View):
    """The rows' pooled features."""

    def groups(self, seen: Seen) -> dict[str, Tensor]:
        """Return the pooled features (N, D)."""
        return {"": seen.fused.pooled}

    def output(self, head: nn.Module, rows: Tensor, seen: Sequence[Seen]) -> Tensor:
        """Return the head's outputs (N, ...)."""
        output: Tensor = head(rows)
        return output
