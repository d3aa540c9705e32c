"""Time of a training step against a plain loop, and of tracking.

    python -m benchmarks.step_overhead [steps=200] [rounds=5] [OVERRIDES of pipeline.fit ...]

Compared on the same batches, model, loss, clipping, optimizer and schedule:
  plain    a hand-written PyTorch loop,
  fit      pipeline.fit's trainer without tracking,
  tracked  the same with MLflow tracking into an sqlite database.
The three take turns; the medians over the rounds of the ratios within a round are printed. Then,
from a run that looks at the tasks' gradients in every other step, what a look in every n-th step
costs as it is configured.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from rich.console import Console
from torch.nn.utils import clip_grad_norm_

from benchmarks.common import numbers_and_rest
from datamodules.batch import MixedBatch
from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.callbacks.last_batch import LastBatch
from lightning_modules.module import MultiTaskModule
from lightning_modules.optimization import parameter_groups, schedule_optimizer
from pipeline.build import build_datamodule, build_module
from pipeline.command import silence_libraries
from pipeline.configuration.composition import compose
from pipeline.run_folder import RunFolder
from pipeline.studies.profiling import StepClock
from pipeline.trainer import make_trainer
from pollinate.instantiate import instantiate

WARM_UP = 20  # steps that don't count


def median_gap(times: Sequence[float]) -> float:
    """Return the median distance of times, the first ``WARM_UP`` left out."""
    late = times[WARM_UP:]
    return statistics.median(b - a for a, b in itertools.pairwise(late))


def plain_seconds(config: dict[str, Any], datamodule: MixedDataModule, steps: int) -> float:
    """Time the hand-written loop: encoders, trunk, heads, cross-entropies, AdamW, schedule."""
    seed_everything(config["seed"], verbose=False)
    module = build_module(config, datamodule)
    network, plan = module.network, module.optimization
    groups = parameter_groups({"": network}, plan.lr, plan.lr_scale, plan.decay)
    optimizer = plan.optimizer(groups)
    scheduler = schedule_optimizer(optimizer, plan.schedule, steps)
    network.train()
    times = []
    for batch in take(datamodule, steps):
        loss = plain_loss(module, batch)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(network.parameters(), config["trainer"]["gradient_clip_val"])
        optimizer.step()
        scheduler.step()
        times.append(time.perf_counter())
    return median_gap(times)


def plain_loss(module: MultiTaskModule, batch: MixedBatch) -> torch.Tensor:
    """Return the sum of the tasks' mean cross-entropies."""
    outputs = module.network(batch.batches)
    total = torch.zeros(())
    for task, output in outputs.items():
        (name,) = module.network.routes[task]
        total = total + torch.nn.functional.cross_entropy(
            output,
            batch.batches[name].targets[task],
            label_smoothing=module.tasks[task].label_smoothing,  # type: ignore[attr-defined]
        )
    return total


def take(datamodule: MixedDataModule, steps: int) -> Any:
    loader = datamodule.train_dataloader()
    loader.epoch_steps = steps
    return iter(loader)


def fit_times(config: dict[str, Any], datamodule: MixedDataModule, tracked: bool) -> list[float]:
    seed_everything(config["seed"], verbose=False)
    module = build_module(config, datamodule)
    clock = StepClock()
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name) / "run")
        folder.create()
        quiet = Console(quiet=True)
        trainer = make_trainer(
            config, folder, quiet, datamodule.sampler, module.transfer, LastBatch(), "max"
        )
        trainer.callbacks.insert(0, clock)
        tracker = make_tracker(config, folder, tracked)
        trainer.loggers = [tracker] if tracker else []
        fit(trainer, module, datamodule)
        if tracker:
            tracker.close("finished")
    return clock.times


def look_share(config: dict[str, Any], datamodule: MixedDataModule) -> float:
    """Return the time that looks at gradients take, as a share of the steps' time."""
    every = config["gradients"]["every_n_steps"]
    times = fit_times({**config, "gradients": {"every_n_steps": 2}}, datamodule, tracked=False)
    gaps = [b - a for a, b in itertools.pairwise(times)][WARM_UP:]  # first: a step of odd number
    with_look, without = statistics.median(gaps[1::2]), statistics.median(gaps[::2])
    return (with_look / without - 1) / every


def make_tracker(config: dict[str, Any], folder: RunFolder, tracked: bool) -> Any:
    if not tracked:
        return None
    options = {**config["tracking"], "uri": f"sqlite:///{folder.path.parent}/mlflow.db"}
    return instantiate(
        options, (), "tracking", run_dir=folder.path, run_name="benchmark", resume=False
    )


def fit(trainer: Trainer, module: LightningModule, datamodule: MixedDataModule) -> None:
    datamodule.position = 0
    datamodule.trainer = None
    trainer.limit_val_batches = 0
    trainer.fit(module, datamodule=datamodule)


def main() -> None:
    numbers, overrides = numbers_and_rest({"steps": 200, "rounds": 5})
    steps, rounds = numbers["steps"], numbers["rounds"]
    silence_libraries()
    settings = [f"trainer.max_steps={steps}", "checkpoint.every_n_steps=1000000"]
    config = compose("fit", [*settings, *overrides])
    datamodule = build_datamodule(config)
    datamodule.setup()
    rows = []
    for number in range(rounds):
        row = {
            "plain": plain_seconds(config, datamodule, steps),
            "fit": median_gap(fit_times(config, datamodule, tracked=False)),
            "tracked": median_gap(fit_times(config, datamodule, tracked=True)),
        }
        rows.append(row)
        print(f"round {number + 1}: " + "  ".join(f"{k} {v * 1e3:.2f} ms" for k, v in row.items()))
    for above, below, limit in (("fit", "plain", 1.10), ("tracked", "fit", 1.03)):
        ratios = [row[above] / row[below] for row in rows]
        low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
        print(f"{above} / {below}: {middle:.3f}  ({low:.3f} to {high:.3f}), aim <= {limit}")
    shares = [look_share(config, datamodule) for _ in range(rounds)]
    low, middle, high = min(shares), statistics.median(shares), max(shares)
    print(f"looks at gradients: {middle:.2%} of the time  ({low:.2%} to {high:.2%}), aim <= 2%")


if __name__ == "__main__":
    main()
