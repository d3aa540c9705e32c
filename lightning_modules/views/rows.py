"""One vector a row."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lightning_modules.features import Features
from lightning_modules.views.base import Seen, View


class RowView(View):
    """The rows' features."""

    def groups(self, seen: Seen) -> dict[str, Features]:
        """Return the features of N rows."""
        return {"": seen.fused}

    def output(self, head: nn.Module, rows: Tensor, seen: Sequence[Seen]) -> Tensor:
        """Return the head's outputs (N, ...)."""
        output: Tensor = head(rows)
        return output
