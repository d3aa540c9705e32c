"""Lightning's strategy for processes that step on their own between synchronisations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed

from lightning_modules.checkpoints import (
    SHARDS,
    ShardReader,
    read_index,
    shard_files,
    write_sharded,
)

OWN = "optimizer_states"  # the part of a checkpoint that each process has in a shard


class LocalSGDStrategy(DDPStrategy):
    """The processes of DDP without its wrapper: nothing is exchanged in a step.

    A checkpoint is of a synchronisation, so that all weights are the same. The optimizers' states
    aren't: each process writes its own beside it.
    """

    def configure_ddp(self) -> None:
        """Let all processes start from the first one's weights; buffers may be their own."""
        assert isinstance(self.model, LightningModule)
        for parameter in self.model.parameters():
            distributed.broadcast(parameter.data, 0)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        """Write rank 0's checkpoint, and beside it each process' optimizer state."""
        own = {"tensors": {}, OWN: checkpoint.get(OWN, [])}
        write_sharded(self, checkpoint, own, filepath)

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return a checkpoint, whatever rank wrote it, with this process' optimizer state.

        One of another number of processes has rank 0's for all.
        """
        path = Path(self.broadcast(checkpoint_path))
        index = read_index(path)
        files = shard_files(index, path)
        saved = ShardReader(files).filled({k: part for k, part in index.items() if k != SHARDS})
        assert isinstance(saved, dict)
        if len(files) == self.world_size:
            shard = torch.load(files[self.global_rank], map_location="cpu", weights_only=True)
            saved |= {OWN: shard[OWN]} if OWN in shard else {}
        return saved
