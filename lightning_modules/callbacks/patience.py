"""Early stopping that a resumed run remembers."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping


class Patience(EarlyStopping):
    """Lightning's EarlyStopping, with a run that had stopped staying so when it is resumed.

    Lightning restores the count of validations without improvement, but trains on; it also takes
    the checkpoint's patience in place of the one that is set now.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End at once if patience had run out."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the count, and with the patience that is set now."""
        super().load_state_dict({**state_dict, "patience": self.patience})
