"""No transfer."""

from __future__ import annotations

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.hooks import AddedLosses, HookedModule, TrainingStep
from lightning_modules.source_models import SourceProvider
from lightning_modules.transfer.base import Transfer


class NoTransfer(Transfer):
    """The run learns from its own data alone."""

    def setup(
        self, module: HookedModule, datamodule: MixedDataModule, sources: SourceProvider
    ) -> list[str]:
        """Leave the run as it is."""
        return []

    def losses(self, step: TrainingStep) -> AddedLosses:
        """Return no losses."""
        return AddedLosses()
