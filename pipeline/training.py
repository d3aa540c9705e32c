"""The Lightning Trainer of a run and its callbacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.strategies import DDPStrategy
from rich.console import Console

from datamodules.samplers.base import Sampler
from lightning_modules.callbacks.adapt import Adapt
from lightning_modules.callbacks.checkpoint import RunCheckpoint
from lightning_modules.callbacks.gradients import WatchGradients
from lightning_modules.callbacks.idle_adapters import IdleAdapters
from lightning_modules.callbacks.measure import Measure
from lightning_modules.callbacks.nonfinite import NonFinite
from lightning_modules.callbacks.patience import Patience
from lightning_modules.callbacks.progress import ProgressLine
from lightning_modules.callbacks.rank_state import RankState
from lightning_modules.callbacks.stop import Stop
from lightning_modules.callbacks.synchronise import Synchronise
from lightning_modules.callbacks.tune import Tune
from lightning_modules.local.base import Averaging
from lightning_modules.local.strategy import LocalStrategy
from lightning_modules.transfer.base import Report, Transfer
from pipeline.checkpoints import AtomicCheckpointIO
from pipeline.configuration.trainer_rules import APART, AVERAGING, BRANCHES, SHARDED
from pipeline.errors import UsageError
from pipeline.instantiate import instantiate
from pipeline.interrupt import StopRequest
from pipeline.runs import RunFolder
from pipeline.sharded_strategy import ShardedStrategy


@dataclass
class Training:
    """A trainer, and the callback that has its figures."""

    trainer: Trainer
    measure: Measure


def make_training(
    config: Mapping[str, Any],
    folder: RunFolder,
    console: Console,
    sampler: Sampler,
    transfer: Transfer,
) -> Training:
    """Return the trainer of a run, without a logger yet.

    Raises:
        UsageError: Lightning refuses an option: more devices than there are, say.
    """
    options = trainer_options(config["trainer"])
    averaging = averaging_of(config)
    measure = Measure(options.pop("log_every_n_steps", 10))
    stop = Stop(StopRequest(), config["trainer"].get("max_steps"))
    say = partial(console.print, highlight=False, soft_wrap=True, markup=False)
    callbacks = make_callbacks(config, folder, measure, stop, console)
    callbacks.insert(1, IdleAdapters(say))
    own = transfer.callbacks(Report(measure.publish, say))
    if config["trainer"].get("strategy") == BRANCHES and not own:
        raise UsageError("trainer=branches needs branches to train; set transfer=fork_merge")
    callbacks[-1:-1] = own  # RunCheckpoint stays last
    if averaging is not None:
        callbacks.insert(0, Synchronise(averaging))
    callbacks.insert(callbacks.index(measure) + 1, Adapt(sampler, measure))
    try:
        trainer = Trainer(
            **options,
            default_root_dir=folder.path,
            logger=False,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=True,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise UsageError(f"trainer: {' '.join(str(error).split())}") from error
    return Training(trainer, measure)


def trainer_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return Lightning's options for ours.

    ``strategy: ddp`` looks for unused parameters: a step need not have every task.
    ``strategy: fsdp2``, ``local`` and ``branches`` are ours.
    """
    ours = ("max_steps", AVERAGING)
    options = {name: value for name, value in given.items() if name not in ours}
    if options.get("max_epochs") is None:
        if given.get("max_steps") is None:
            raise UsageError("trainer.max_epochs or trainer.max_steps must be set, got neither")
        options["max_epochs"] = -1
    options.setdefault("num_sanity_val_steps", 0)
    if options.get("strategy") == "ddp":
        options["strategy"] = DDPStrategy(find_unused_parameters=True)
    if options.get("strategy") == SHARDED:
        options["strategy"] = ShardedStrategy()
    if options.get("strategy") in APART:
        options["strategy"] = LocalStrategy()
    return options


def averaging_of(config: Mapping[str, Any]) -> Averaging | None:
    """Return how processes that step on their own come together, None where they don't."""
    node = config["trainer"].get(AVERAGING)
    if node is None:
        return None
    averaging: Averaging = instantiate(node, config["allow_targets"], f"trainer.{AVERAGING}")
    return averaging


def make_callbacks(
    config: Mapping[str, Any], folder: RunFolder, measure: Measure, stop: Stop, console: Console
) -> list[Callback]:
    """Return the callbacks in the order in which they act; RunCheckpoint acts last."""
    checkpoint, patience = config["checkpoint"], config["early_stopping"]["patience"]
    callbacks: list[Callback] = [NonFinite(folder.path)]
    if config["ema_decay"] is not None:
        callbacks.append(EMAWeightAveraging(decay=config["ema_decay"]))
    callbacks += [Tune(), WatchGradients(config["gradients"]["every_n_steps"], measure)]
    callbacks += [measure, stop, RankState(), ProgressLine(measure, console)]
    if patience is not None:
        callbacks.append(
            Patience(
                checkpoint["monitor"],
                mode=checkpoint["mode"],
                patience=patience,
                min_delta=config["early_stopping"]["min_delta"],
            )
        )
    return [*callbacks, RunCheckpoint(folder.checkpoints, stop, **checkpoint)]
