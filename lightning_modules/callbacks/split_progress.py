"""What a person sees while a split is measured."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import Progress, TaskID


class SplitProgress(Callback):
    """A bar over the batches; on a terminal only.

    Args:
        console: where to draw.
    """

    def __init__(self, console: Console) -> None:
        self._bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._task = TaskID(0)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar."""
        self._task = self._bar.add_task("measuring", total=sum(trainer.num_test_batches))
        self._bar.start()

    def on_test_batch_end(self, *_: Any, **__: Any) -> None:
        """Move the bar."""
        self._bar.advance(self._task)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away."""
        self._bar.stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Take the bar away."""
        self._bar.stop()
