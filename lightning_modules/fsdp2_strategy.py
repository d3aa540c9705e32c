"""Lightning's strategy for a model whose weights are spread over the devices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.optimizer import _optimizers_to_device
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy, ParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim import Optimizer

from lightning_modules.checkpoints import (
    SHARDS,
    ShardReader,
    read_index,
    shard_files,
    split_off_shard,
    write_sharded,
)
from lightning_modules.module import MultiTaskModule, as_multitask
from lightning_modules.sharding import shard


class FSDP2Strategy(ModelParallelStrategy):
    """FSDP2: each process keeps its rows of weights, gradients and optimizer state.

    Lightning's own strategy leaves the sharding to the module, and saves by
    ``torch.distributed.checkpoint``, whose metadata can only be read by executing a pickle.
    """

    def setup_environment(self) -> None:
        """Let all processes share one model."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        self._tensor_parallel_size = 1
        super().setup_environment()

    def setup(self, trainer: Trainer) -> None:
        """Shard the network; then make the optimizers, which must find the pieces."""
        assert self.accelerator is not None and self.model is not None
        self.accelerator.setup(trainer)
        self.model = self.precision_plugin.convert_module(self.model)
        shard(self._module.network, self.device_mesh["data_parallel"])
        self.model_to_device()
        self.barrier()
        if trainer.state.fn == TrainerFn.FITTING:
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()
        if trainer.state.fn == TrainerFn.FITTING:
            _optimizers_to_device(self.optimizers, self.root_device)

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Say that optimizer states come with the checkpoint, as in every other strategy."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return weights and buffers; sharded ones as pieces."""
        return self._module.state_dict()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the optimizer's state; that of sharded weights as pieces."""
        return ParallelStrategy.optimizer_state(self, optimizer)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Take over weights, as ``load_checkpoint`` returned them."""
        ParallelStrategy.load_model_state_dict(self, checkpoint, strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take over optimizer states, as ``load_checkpoint`` returned them."""
        ParallelStrategy.load_optimizer_state_dict(self, checkpoint)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        """Write this process's shard; see ``write_sharded``."""
        index, own = split_off_shard(checkpoint)
        write_sharded(self, index, {"tensors": own}, filepath)

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return a checkpoint, of whatever rank, with this process's shards."""
        path = Path(self.broadcast(checkpoint_path))
        saved = read_index(path)
        found = ShardReader(shard_files(saved, path)).filled(
            {name: part for name, part in saved.items() if name != SHARDS},
            likes=local_tensors(self._module, self.optimizers),
        )
        assert isinstance(found, dict)
        return found

    @property
    def _module(self) -> MultiTaskModule:
        assert self.lightning_module is not None
        return as_multitask(self.lightning_module)


def local_tensors(
    module: torch.nn.Module, optimizers: Iterable[Optimizer] = ()
) -> dict[str, Tensor]:
    """Return {place in a checkpoint: the tensor here}; below a parameter's place is its state."""
    found = {f"/state_dict/{name}": tensor for name, tensor in module.state_dict().items()}
    for number, optimizer in enumerate(optimizers):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for place, parameter in enumerate(parameters):
            found[f"/optimizer_states/{number}/state/{place}"] = parameter
    return found
