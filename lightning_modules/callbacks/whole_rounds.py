"""Options of a trainer with which a round of branches would be cut in two, or averaged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import WeightAveraging

from lightning_modules.callbacks.synchronise import Synchronise

if TYPE_CHECKING:
    from lightning_modules.transfer.fork_merge import ForkMerge


def problems(trainer: Trainer, plan: ForkMerge, max_steps: int | None) -> Iterator[str]:
    """Yield what rounds don't fit.

    Args:
        trainer: about to train.
        plan: the branches and their steps.
        max_steps: optimizer steps of the run, or None.
    """
    round_, accumulate = plan.lines * plan.every_n_steps, trainer.accumulate_grad_batches
    if plan.every_n_steps % accumulate:
        yield (
            f"transfer.every_n_steps must be a multiple of trainer.accumulate_grad_batches="
            f"{accumulate}, got {plan.every_n_steps}; gradients of one branch would move another"
        )
    steps = round_ // accumulate
    if max_steps is not None and max_steps % max(1, steps):
        yield (
            f"trainer.max_steps must be a multiple of {steps}, the optimizer steps of a round, got "
            f"{max_steps}"
        )
    if trainer.val_check_batch != trainer.num_training_batches:
        yield (
            "trainer.val_check_interval must leave validations to the ends of epochs, which are "
            f"rounds, got {trainer.val_check_interval}; leave it out"
        )
    if trainer.num_training_batches != round_:
        yield (
            f"trainer.limit_train_batches must leave a round of {round_} whole, got "
            f"{trainer.num_training_batches}"
        )


def averaging_problems(callbacks: list[Callback]) -> Iterator[str]:
    """Yield what would average weights in the middle of a round."""
    if any(isinstance(one, Synchronise) for one in callbacks):
        yield (
            "trainer.averaging must be null with transfer=fork_merge: it would average branches in "
            "the middle of a round; use trainer=branches for a branch a process"
        )
    if any(isinstance(one, WeightAveraging) for one in callbacks):
        yield (
            "ema_decay must be null with transfer=fork_merge: an average over branches that start "
            "anew is of no use"
        )
