"""No transfer."""

from __future__ import annotations

from lightning_modules.transfer.base import Transfer


class NoTransfer(Transfer):
    """The run learns from its own data alone.

    Examples:
        >>> import torch, pollinate as po
        >>> po.transfer.NoTransfer().weight_losses({"mood": torch.tensor(1.0)})
        {'mood': tensor(1.)}
    """
