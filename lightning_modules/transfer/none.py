"""No transfer."""

from __future__ import annotations

from lightning_modules.transfer.base import Transfer


class NoTransfer(Transfer):
    """The run learns from its own data alone."""
