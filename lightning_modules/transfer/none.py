"""No transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_modules.transfer.base import SourceProvider, Transfer, TransferLosses, TransferStep

if TYPE_CHECKING:
    from datamodules.mixed_datamodule import MixedDataModule
    from lightning_modules.module import MultiTaskModule


class NoTransfer(Transfer):
    """The run learns from its own data alone."""

    def setup(
        self, module: MultiTaskModule, datamodule: MixedDataModule, sources: SourceProvider
    ) -> list[str]:
        """Leave the run as it is."""
        return []

    def losses(self, step: TransferStep) -> TransferLosses:
        """Return no losses."""
        return TransferLosses()
