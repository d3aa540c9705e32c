"""When a run ends early: max_steps, signals, early stopping, a loss that isn't finite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor

from datamodules.batch import MixedBatch
from lightning_modules.distributed import any_rank
from lightning_modules.module import MultiTaskModule, as_multitask
from pollinate.errors import PollinateError, UsageError
from pollinate.interrupt import StopRequest

Say = Callable[[str], None]


def tell(trainer: Trainer, say: Say | None, text: str) -> None:
    """Tell people something, once for all processes."""
    if say is not None and trainer.is_global_zero:
        say(text)


def whole_epochs(checkpoint: Mapping[str, Any]) -> int:
    """Return how many epochs were whole when a checkpoint was written."""
    progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
    return int(progress["processed"])


class InterruptedRunError(PollinateError):
    """The run was stopped by a signal, after its state was saved; ``signal_name`` says which."""

    def __init__(self, signal_name: str) -> None:
        super().__init__(f"stopped by {signal_name}")
        self.signal_name = signal_name


class PausedRunError(PollinateError):
    """The run has had the ``epochs`` after which it was to pause, and its state was saved."""

    def __init__(self, epochs: int) -> None:
        super().__init__(f"paused after {epochs} {'epoch' if epochs == 1 else 'epochs'}")
        self.epochs = epochs


class StopTraining(Callback):
    """Stops after ``max_steps`` optimizer steps, pauses after some epochs, and knows of signals.

    Lightning's own max_steps isn't used: with it, a run that is resumed between two epochs counts
    an epoch twice (lightning 2.6).

    Args:
        request: set by a signal handler.
        max_steps: optimizer steps, >= 1, or None.
        pause_after: epochs after which the run ends as by a signal, to be resumed, or None.
        say: tells people, of the first process, why nothing is trained.
    """

    def __init__(
        self,
        request: StopRequest,
        max_steps: int | None = None,
        pause_after: int | None = None,
        say: Say | None = None,
    ) -> None:
        self.request = request
        self.max_steps = max_steps
        self.pause_after = pause_after
        self.say = say

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals, after Lightning took them; end at once if all steps are done."""
        self.request.install()
        trainer.should_stop |= self.at_last_step(trainer)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say that a run which is resumed has reached its end already.

        Raises:
            UsageError: it has gone beyond it.
        """
        limits = {
            "max_steps": (checkpoint["global_step"], self.max_steps, "optimizer steps"),
            "max_epochs": (whole_epochs(checkpoint), trainer.max_epochs, "epochs"),
        }
        for name, (done, limit, what) in limits.items():
            if limit is None or limit < 0 or done < limit:
                continue
            if done > limit:
                raise UsageError(
                    f"trainer.{name} must be > {done}, the {what} that the run has had, got "
                    f"{limit}; leave it out to look at the run as it is"
                )
            tell(
                trainer,
                self.say,
                f"nothing is left to train: the run has had its {done} {what}; give more: "
                f"trainer.{name}=N",
            )

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Ask the trainer to stop at the last step."""
        trainer.should_stop |= self.at_last_step(trainer)

    def at_last_step(self, trainer: Trainer) -> bool:
        """Say whether all optimizer steps are done."""
        return self.max_steps is not None and trainer.global_step >= self.max_steps

    def requested(self, trainer: Trainer) -> bool:
        """Say whether a signal came to any rank; every rank gets the same answer."""
        return any_rank(self.request.signal_name is not None, trainer.strategy.root_device)

    def pause(self, trainer: Trainer) -> None:
        """Leave training if this epoch's end is where to pause, and not the run's end.

        The state has been saved.

        Raises:
            PausedRunError: it is.
        """
        done = trainer.current_epoch + 1
        if done == self.pause_after and done != trainer.max_epochs and not trainer.should_stop:
            raise PausedRunError(done)

    def interrupt(self) -> NoReturn:
        """Leave training; the state has been saved."""
        raise InterruptedRunError(self.request.signal_name or "a signal to another process")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back."""
        self.request.restore()


class ResumableEarlyStopping(EarlyStopping):
    """Lightning's EarlyStopping, with a run that had stopped staying so when it is resumed.

    Lightning restores the count of validations without improvement, but trains on; it also takes
    the checkpoint's patience in place of the one that is set now.

    Args:
        monitor, mode, patience, min_delta: as in Lightning.
        say: tells people, of the first process, why training ends.
    """

    def __init__(self, monitor: str, *, say: Say | None = None, **options: Any) -> None:
        super().__init__(monitor, **options)
        self.say = say

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End at once if patience had run out."""
        if self.has_stopped:
            trainer.should_stop = True
            tell(
                trainer,
                self.say,
                f"nothing is trained: {self._reason()}; to go on set early_stopping.patience=null, "
                f"or more than {self.wait_count}",
            )

    @property
    def has_stopped(self) -> bool:
        """Whether patience has run out."""
        return bool(self.wait_count >= self.patience)

    def _run_early_stopping_check(self, trainer: Trainer) -> None:
        """Count a validation; say so if it is the last one."""
        before = self.stopped_epoch
        super()._run_early_stopping_check(trainer)
        if self.stopped_epoch != before:
            tell(trainer, self.say, f"stopped early: {self._reason()}")

    def _reason(self) -> str:
        if not self.has_stopped:
            return f"{self.monitor} isn't a finite number"
        best = "" if not torch.isfinite(self.best_score) else f" than {self.best_score:.4g}"
        return (
            f"{self.monitor} was not better{best} in {self.wait_count} validations, "
            f"early_stopping.patience={self.patience}"
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the count, but keep the patience that is configured now."""
        super().load_state_dict({**state_dict, "patience": self.patience})


class StopAtNonFiniteLoss(Callback):
    """Names task, step and rows, saves the batch, and stops the run on all ranks.

    Args:
        folder: where the batch is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._batch: MixedBatch | None = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: MixedBatch, batch_idx: int
    ) -> None:
        self._batch = batch

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Check the objective.

        Raises:
            PollinateError: it is NaN or infinite on any rank.
        """
        here = not torch.isfinite(loss).item()
        if as_multitask(pl_module).engine.local:
            # the others ask, in the same exchange, when they come to their next synchronisation
            found = here and any_rank(here, trainer.strategy.root_device)
        else:
            found = any_rank(here, trainer.strategy.root_device)
        if not found:
            return
        step = trainer.global_step + 1
        if not here:
            raise PollinateError(f"the loss isn't finite at step {step}, on another process")
        path = self.folder / f"bad-batch-step{step}-rank{trainer.global_rank}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(plain_batch(self._batch), path)
        causes = describe_nonfinite(as_multitask(pl_module), self._batch)
        raise PollinateError(
            f"the loss isn't finite at step {step}: {causes}. "
            f"The batch is saved in {path}; {remedies(trainer)}. The last checkpoint is from "
            "before this step"
        )


def remedies(trainer: Trainer) -> str:
    """Return what may help against a loss that isn't finite, and isn't done yet."""
    found = ["look at its inputs and targets", "lower optimizer.lr"]
    if not trainer.gradient_clip_val:
        found.append("set trainer.gradient_clip_val")
    if trainer.precision in ("16-mixed", "16-true"):
        found.append("use trainer.precision=bf16-mixed, whose numbers may be larger")
    return f"{', '.join(found[:-1])}, or {found[-1]}"


def raise_if_others_nonfinite(trainer: Trainer) -> None:
    """Ask the processes that have stepped on their own since they exchanged anything.

    Raises:
        PollinateError: one met a loss that isn't finite.
    """
    if any_rank(False, trainer.strategy.root_device):
        raise PollinateError(
            f"the loss isn't finite on another process, by step {trainer.global_step}"
        )


def describe_nonfinite(module: MultiTaskModule, batch: MixedBatch | None) -> str:
    """Name the tasks whose loss isn't finite, and their rows in this step."""
    bad = [task for task, loss in module.losses.items() if not torch.isfinite(loss)]
    if batch is None or not bad:
        return "every task's loss is finite, but not the sum that the balancer made of them"
    parts = []
    for task in bad:
        for name in module.network.routes[task]:
            if name in batch.batches:
                rows = batch.batches[name].index.tolist()
                shown = ", ".join(map(str, rows[:10])) + (", ..." if len(rows) > 10 else "")
                loss = module.losses[task].item()
                parts.append(f"task {task} is {loss} (data set {name}, training rows {shown})")
    return "; ".join(parts)


def plain_batch(batch: MixedBatch | None) -> dict[str, object]:
    """Return a batch as plain containers, loadable with weights_only."""
    if batch is None:
        return {}
    return {
        name: {
            "inputs": b.inputs,
            "targets": b.targets,
            "present": b.present,
            "index": b.index,
            "kept": {modality: kept.features.pooled for modality, kept in b.cached.items()},
        }
        for name, b in batch.batches.items()
    }
