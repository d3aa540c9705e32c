"""No transfer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from lightning_modules.transfer.base import Transfer, TransferLosses

if TYPE_CHECKING:
    from datamodules.batch import MixedBatch
    from datamodules.mixed import MixedDataModule
    from lightning_modules.multitask import MultiTaskModule


class NoTransfer(Transfer):
    """The run learns from its own data alone."""

    def setup(self, module: MultiTaskModule, datamodule: MixedDataModule) -> None:
        """Leave the run as it is."""

    def losses(self, outputs: Mapping[str, Tensor], batch: MixedBatch) -> TransferLosses:
        """Return no losses."""
        return TransferLosses()
