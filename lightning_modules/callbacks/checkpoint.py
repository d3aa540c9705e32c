"""Checkpoints from which a run resumes exactly; the best one is kept."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from lightning_modules.callbacks.stopping import StopTraining
from lightning_modules.checkpoints import BEST, LAST, PREVIOUS, is_intact, step_in
from lightning_modules.flushable_logger import FlushableLogger
from lightning_modules.module import as_multitask
from pollinate.files import temporary_beside
from pollinate.reproducibility import random_states, restore_random_states

WORSE_THAN_ANY = {"max": -float("inf"), "min": float("inf")}


class RunCheckpoint(Checkpoint):
    """Writes last.ckpt every n optimizer steps and after each epoch, and best.ckpt.

    A state is exact only between steps: after an optimizer step that no validation follows, and
    after an epoch with its validation. Those are the only places at which last.ckpt is written
    and at which a signal ends the run; where processes step on their own, only those at which they
    have the same weights. The last.ckpt before stays as previous.ckpt.

    Args:
        folder: where the files go.
        stop: knows whether the run shall end.
        every_n_steps: optimizer steps between two last.ckpt, >= 1.
        monitor: metric that chooses best.ckpt.
        mode: whether its "max" or "min" is best.
    """

    def __init__(
        self, folder: Path, stop: StopTraining, every_n_steps: int, monitor: str, mode: str
    ) -> None:
        self.folder = folder
        self.stop = stop
        self.every_n_steps = every_n_steps
        self.monitor = monitor
        self.mode = mode
        self.best = WORSE_THAN_ANY[mode]
        self.best_step: int | None = None
        self.saved_step = 0
        self._best_pending = False

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Save if it is time to; stop if a signal came."""
        if trainer.fit_loop.epoch_loop._should_accumulate() or self._validation_follows(trainer):
            return
        if self.stop.at_last_step(trainer):
            return  # the run's last validation follows; on_train_epoch_end saves
        if as_multitask(pl_module).engine.weights_differ:
            return
        signalled = self.stop.requested(trainer)
        due = trainer.global_step >= self.saved_step + self.every_n_steps
        if due or signalled:
            self._save_last(trainer, pl_module)
        if signalled:
            self.stop.interrupt()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the best; after an epoch's last batch, together with last.ckpt."""
        value = trainer.callback_metrics.get(self.monitor)
        if value is None or trainer.sanity_checking:
            return
        score = float(value)
        if score > self.best if self.mode == "max" else score < self.best:
            self.best, self.best_step = score, trainer.global_step
            self._best_pending = epoch_is_whole(trainer)
            if not self._best_pending:
                trainer.save_checkpoint(self.folder / BEST)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after a whole epoch and at the run's end; stop if a signal came."""
        if not epoch_is_whole(trainer) and not trainer.should_stop:
            return
        self._save_last(trainer, pl_module)
        if self._best_pending:
            self._keep_as_best(trainer, self.folder / LAST)
        self._best_pending = False
        if self.stop.requested(trainer):
            self.stop.interrupt()
        self.stop.pause(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the start of a run that ended before its first step: its aim was reached."""
        if trainer.global_step:
            return
        self._save_last(trainer, pl_module)
        self._keep_as_best(trainer, self.folder / LAST)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Make best.ckpt of a checkpoint that is the best one, where a kill came in between."""
        own = (checkpoint.get("callbacks") or {}).get(self.state_key) or {}
        best, step = own.get("best_step"), checkpoint.get("global_step")
        from_here = trainer.ckpt_path and Path(trainer.ckpt_path).parent == self.folder
        if from_here and best is not None and best == step != self._kept_step():
            self._keep_as_best(trainer, Path(str(trainer.ckpt_path)))
            trainer.strategy.barrier()  # all processes look whether the best one is there

    def _kept_step(self) -> float | None:
        best = self.folder / BEST
        return step_in(best) if best.is_file() else None

    def _keep_as_best(self, trainer: Trainer, path: Path) -> None:
        if trainer.is_global_zero:
            link(path, self.folder / BEST)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step, "saved_step": self.saved_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over where the run stood; a best.ckpt that is damaged or gone is no best one."""
        self.saved_step = state_dict["saved_step"]
        if state_dict["best_step"] is None or is_intact(self.folder / BEST):
            self.best, self.best_step = state_dict["best"], state_dict["best_step"]
            return
        warnings.warn(
            f"{self.folder / BEST} of step {state_dict['best_step']} is damaged or gone, so the "
            "best one is looked for among the steps that follow",
            stacklevel=2,
        )
        (self.folder / BEST).unlink(missing_ok=True)

    def _save_last(self, trainer: Trainer, module: LightningModule) -> None:
        self.saved_step = trainer.global_step
        pending = as_multitask(module).pending_metrics()
        for logger in trainer.loggers:
            if isinstance(logger, FlushableLogger):
                # what was measured before the checkpoint is on disk before it; Lightning's turn to
                # hand it over comes later, when the logger leaves out what it has
                logger.log_metrics(pending, step=trainer.global_step)
                logger.flush()
        last = self.folder / LAST
        if trainer.is_global_zero and last.exists():
            link(last, self.folder / PREVIOUS)  # last stays in place until the new one is whole
        trainer.save_checkpoint(last)

    def _validation_follows(self, trainer: Trainer) -> bool:
        """Say whether the schedule has a validation after this batch.

        Lightning skips that validation when it resumes from a checkpoint made before it.
        """
        loop = trainer.fit_loop.epoch_loop
        if epoch_is_whole(trainer):
            return True
        every = trainer.val_check_batch
        if not trainer.enable_validation or not every or every == float("inf"):
            return False
        number = loop.total_batch_idx if trainer.check_val_every_n_epoch is None else loop.batch_idx
        return (number + 1) % int(every) == 0


def epoch_is_whole(trainer: Trainer) -> bool:
    """Say whether the epoch's last batch is done."""
    return trainer.fit_loop.epoch_loop._num_ready_batches_reached()


def link(source: Path, target: Path) -> None:
    """Give a file that is never changed in place a second name, replacing ``target``."""
    temporary = temporary_beside(target)
    try:
        temporary.hardlink_to(source)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, temporary)
    temporary.replace(target)
    # of two names of one file, which a killed run may leave, POSIX replaces none and removes none
    temporary.unlink(missing_ok=True)


class RankState(Callback):
    """Puts every rank's random states and unfinished sums into checkpoints.

    Lightning saves neither, and without them a resumed run differs from one never stopped.
    """

    def __init__(self) -> None:
        self._random: Mapping[str, Any] | None = None

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Gather the ranks' states; all ranks take part."""
        own = {"random": random_states(), "module": as_multitask(pl_module).rank_state()}
        states = [own]
        if trainer.world_size > 1:
            states = [{} for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(states, own)
        checkpoint["rank_states"] = states

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Give this rank its sums back; also a run that has nothing left to train reports them."""
        states = checkpoint["rank_states"]
        if len(states) != trainer.world_size:
            warnings.warn(
                f"the checkpoint was written by {len(states)} processes and this run has "
                f"{trainer.world_size}: it resumes from the same weights, but not bit for bit",
                stacklevel=2,
            )
            return
        state = states[trainer.global_rank]
        as_multitask(pl_module).load_rank_state(state["module"])
        self._random = state["random"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give this rank its random states back, after set-up has drawn its numbers."""
        if self._random is not None:
            restore_random_states(self._random)
        self._random = None
