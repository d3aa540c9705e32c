"""What each process must remember besides the weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_modules.multitask import multitask
from pipeline.reproduce import random_states, restore_random_states


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
        own = {"random": random_states(), "module": multitask(pl_module).rank_state()}
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
                f"the checkpoint is of {len(states)} processes and this run has "
                f"{trainer.world_size}: it goes on from the same weights, not bit for bit",
                stacklevel=2,
            )
            return
        state = states[trainer.global_rank]
        multitask(pl_module).load_rank_state(state["module"])
        self._random = state["random"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give this rank its random states back, after set-up has drawn its numbers."""
        if self._random is not None:
            restore_random_states(self._random)
        self._random = None
