"""Progress bars of training and evaluation."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from lightning_modules.evaluation_module import as_evaluated
from lightning_modules.module import as_multitask
from pollinate.printable import printable


class TrainingProgressBar(Callback):
    """A bar on a terminal; elsewhere one line an epoch. Shows each task's latest figures.

    Args:
        console: where to write.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or not self.console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}", style="bold"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            console=self.console,
            transient=True,
        )
        total = as_multitask(pl_module).total_steps()
        self._task = self._bar.add_task(
            "", total=total, completed=trainer.global_step, epoch="", speed="", figures=""
        )
        self._bar.start()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        if self._bar is not None:
            speed = trainer.callback_metrics.get("train/steps_per_second")
            self._bar.update(
                self._task,
                completed=trainer.global_step,
                epoch=epoch_text(trainer),
                speed=f"{speed:.1f} steps/s" if speed else "",
                figures=self._figures(trainer, pl_module),
            )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write a line where there is no bar."""
        if trainer.is_global_zero and self._bar is None:
            step = trainer.global_step
            self.console.print(
                f"epoch {epoch_text(trainer)}  step {step}  {self._figures(trainer, pl_module)}",
                highlight=False,
                soft_wrap=True,
                markup=False,
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _figures(self, trainer: Trainer, module: LightningModule) -> str:
        """Return ``task loss score`` of every task, the score being the last validation's."""
        latest = trainer.callback_metrics
        return " | ".join(
            f"{printable(task)} {_short(latest.get(f'train/{task}/loss'), 2)}"
            f" {_short(latest.get(f'valid/{task}/{definition.score}'), 3)}".rstrip()
            for task, definition in as_evaluated(module).tasks.items()
        )


def epoch_text(trainer: Trainer) -> str:
    """Return ``3/20``, or ``3`` where the number of epochs is not set."""
    limit = trainer.max_epochs
    number = trainer.current_epoch + 1
    return f"{number}/{limit}" if limit and limit > 0 else str(number)


def _short(value: Tensor | None, digits: int) -> str:
    """Return .97 for 0.97, and nothing for None."""
    return "" if value is None else f"{value:.{digits}f}".replace("0.", ".", 1)


class EvaluationProgressBar(Callback):
    """A bar over the batches; on a terminal only.

    Args:
        console: where to draw.
    """

    def __init__(self, console: Console) -> None:
        self._bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._task = TaskID(0)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._task = self._bar.add_task("measuring", total=sum(trainer.num_test_batches))
        self._bar.start()

    def on_test_batch_end(self, *_: Any, **__: Any) -> None:
        self._bar.advance(self._task)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._bar.stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._bar.stop()
