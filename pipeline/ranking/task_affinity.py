"""A short run on the target, to see what its tasks do to each other."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import seed_everything
from torch import Tensor

from lightning_modules.callbacks.stopping import StopAtNonFiniteLoss
from lightning_modules.callbacks.task_affinities import MeasureTaskAffinities
from lightning_modules.transferability.base import Absent
from pipeline.build import build_datamodule, build_module
from pipeline.run_folder import RunFolder
from pipeline.trainer import NO_TRANSFER, explain_out_of_memory, quiet_trainer


@dataclass
class TaskRelations:
    """What tasks do to each other.

    rows: {task: training rows with a label}.
    affinities, cosines: (S, T, T), a matrix a look, row = source, column = target, NaN where the
        step lacked one of the two; tasks: of rows and columns.
    seconds: of the run without the looks, and of the looks: {run, affinity, cosine}.
    """

    tasks: list[str]
    rows: dict[str, int]
    affinities: Tensor
    cosines: Tensor
    seconds: dict[str, float]

    def of(self, matrices: Tensor, source: str, target: str) -> Tensor | Absent:
        """Return the looks at one pair: (S,)."""
        values = matrices[:, self.tasks.index(source), self.tasks.index(target)]
        found = values[~values.isnan()]
        if len(found):
            return found
        return Absent(f"no step had both {source} and {target}, or they share no weights")


def measure_task_relations(config: Mapping[str, Any], folder: RunFolder) -> TaskRelations:
    """Train on the target for ``steps`` steps and look at its tasks every ``every`` steps."""
    started = time.perf_counter()
    seed_everything(config["seed"], verbose=False)
    data = build_datamodule(config)
    data.setup()
    trainer = {**config["trainer"], "max_steps": config["steps"]}
    module = build_module({**config, "trainer": trainer, "transfer": NO_TRANSFER}, data)
    watch = MeasureTaskAffinities(list(data.tasks), config["every"], module.optimization.lr)
    callbacks = [StopAtNonFiniteLoss(folder.path), watch]
    own = {"max_steps": config["steps"], "limit_val_batches": 0, "default_root_dir": folder.path}
    run = quiet_trainer(config["trainer"], callbacks, **own)
    module.engine.attach(run.strategy)
    with explain_out_of_memory("sampler.batch_size", data.sampler.batch_size):
        run.fit(module, datamodule=data)
    looks = sum(watch.seconds.values())
    return TaskRelations(
        watch.tasks,
        data.labelled_rows(),
        stacked(watch.affinities, len(watch.tasks)),
        stacked(watch.cosines, len(watch.tasks)),
        {"run": time.perf_counter() - started - looks, **watch.seconds},
    )


def stacked(matrices: list[Tensor], tasks: int) -> Tensor:
    return torch.stack(matrices) if matrices else torch.zeros(0, tasks, tasks)
