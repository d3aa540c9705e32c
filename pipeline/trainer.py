"""The Lightning Trainer of a run, its callbacks, and the error when memory runs out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, RichModelSummary
from lightning.pytorch.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler
from lightning.pytorch.strategies import DDPStrategy
from rich.console import Console

from datamodules.samplers.base import Sampler
from lightning_modules.callbacks.adaptive_sampling import AdaptSampler
from lightning_modules.callbacks.average_parameters import AverageParameters
from lightning_modules.callbacks.checkpoint import RankState, RunCheckpoint
from lightning_modules.callbacks.gradient_conflicts import LogGradientConflicts
from lightning_modules.callbacks.idle_adapters import WarnIdleAdapters
from lightning_modules.callbacks.last_batch import LastBatch
from lightning_modules.callbacks.progress_bars import TrainingProgressBar
from lightning_modules.callbacks.stopping import (
    ResumableEarlyStopping,
    StopAtNonFiniteLoss,
    StopTraining,
)
from lightning_modules.checkpoints import AtomicCheckpointIO
from lightning_modules.fsdp2_strategy import FSDP2Strategy
from lightning_modules.hooks import HookReporter, TrainingHooks
from lightning_modules.local_strategy import LocalSGDStrategy
from lightning_modules.metrics import publish
from pipeline.configuration.method_rules import (
    AVERAGING,
    BRANCHES,
    LOCAL_STRATEGIES,
    SHARDED,
    SWITCHES,
)
from pipeline.run_folder import RunFolder
from pipeline.terminal import say
from pipeline.text_format import count
from pollinate.errors import PollinateError, UsageError
from pollinate.instantiate import instantiate
from pollinate.interrupt import StopRequest
from pollinate.suggest import hint


def make_trainer(
    config: Mapping[str, Any],
    folder: RunFolder,
    console: Console,
    sampler: Sampler,
    transfer: TrainingHooks,
    last_batch: LastBatch,
    mode: str,
) -> Trainer:
    """Return the trainer of a run, without a logger yet.

    Args:
        mode: which end of ``checkpoint.monitor`` is best, "max" or "min".
    """
    options = trainer_options(config["trainer"])
    options.setdefault("log_every_n_steps", 10)
    options["profiler"] = profiler_of(options.get("profiler"), folder)
    if config["trainer"].get("strategy") == BRANCHES and not transfer.trains_branches:
        raise UsageError(
            "trainer=branches needs a transfer method that trains branches, got "
            f"{type(transfer).__name__}; name one in transfer, or use trainer=ddp"
        )
    callbacks = make_callbacks(config, folder, console, sampler, transfer, last_batch, mode)
    try:
        return Trainer(
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


PROFILERS: dict[str, type[Profiler]] = {
    "simple": SimpleProfiler,
    "advanced": AdvancedProfiler,
    "pytorch": PyTorchProfiler,
}


def profiler_of(name: str | None, folder: RunFolder) -> Profiler | None:
    """Return a profiler whose report goes to the run folder, profile-fit.txt and the like.

    Raises:
        UsageError: there is none of that name.
    """
    if name is None:
        return None
    if name not in PROFILERS:
        raise UsageError(f"trainer.profiler must be null{hint(name, PROFILERS, 'or one of')}")
    made: Any = PROFILERS[name]
    profiler: Profiler = made(dirpath=folder.path, filename="profile")
    return profiler


@contextmanager
def explain_refused_options() -> Iterator[None]:
    """Turn what Lightning finds out only when it starts into an error of one line."""
    try:
        yield
    except MisconfigurationException as error:
        raise UsageError(f"trainer: {' '.join(str(error).split())}") from error


NO_TRANSFER = {"_target_": "pollinate.transfer.NoTransfer"}  # of a run that only looks
# options of a run on which scores and the size of a step depend
QUIET_KEYS = ("accelerator", "precision", "gradient_clip_val", "gradient_clip_algorithm")


def quiet_trainer(given: Mapping[str, Any], callbacks: list[Callback], **own: Any) -> Trainer:
    """Return a trainer on one device that keeps and shows nothing by itself."""
    return Trainer(
        **{name: value for name, value in given.items() if name in QUIET_KEYS},
        **own,
        devices=1,
        logger=False,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def trainer_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return Lightning's options for ours.

    ``strategy: ddp`` looks for unused parameters: a step need not have every task.
    ``strategy: fsdp2``, ``local`` and ``branches`` are ours.
    """
    ours = ("max_steps", AVERAGING, *SWITCHES)
    options = {name: value for name, value in given.items() if name not in ours}
    if options.get("max_epochs") is None:
        if given.get("max_steps") is None:
            raise UsageError("trainer.max_epochs or trainer.max_steps must be set, got neither")
        options["max_epochs"] = -1
    options.setdefault("num_sanity_val_steps", 0)
    if options.get("strategy") == "ddp":
        options["strategy"] = DDPStrategy(find_unused_parameters=True)
    if options.get("strategy") == SHARDED:
        options["strategy"] = FSDP2Strategy()
    if options.get("strategy") in LOCAL_STRATEGIES:
        options["strategy"] = LocalSGDStrategy()
    return options


def make_callbacks(
    config: Mapping[str, Any],
    folder: RunFolder,
    console: Console,
    sampler: Sampler,
    transfer: TrainingHooks,
    last_batch: LastBatch,
    mode: str,
) -> list[Callback]:
    """Return the callbacks in the order in which they act."""
    checkpoint, stopping = {**config["checkpoint"], "mode": mode}, config["early_stopping"]
    say_here, average = partial(say, console), config["trainer"].get(AVERAGING)
    most = config["trainer"].get("max_steps")
    stop = StopTraining(StopRequest(), most, config.get("pause_after"), say_here)
    found: list[Callback] = [last_batch, StopAtNonFiniteLoss(folder.path)]
    if average is not None:
        schedule = instantiate(average, config["allow_targets"], f"trainer.{AVERAGING}")
        found.insert(0, AverageParameters(schedule))
    found.append(WarnIdleAdapters(say_here))
    if config["ema_decay"] is not None:
        found.append(EMAWeightAveraging(decay=config["ema_decay"]))
    found.append(LogGradientConflicts(config["gradients"]["every_n_steps"]))
    found += [AdaptSampler(sampler), stop, RankState()]
    if config["trainer"].get("enable_progress_bar", True):
        found.append(TrainingProgressBar(console))
    if config["trainer"].get("enable_model_summary"):
        found.append(RichModelSummary(max_depth=2))
    if stopping["patience"] is not None:
        found.append(
            ResumableEarlyStopping(checkpoint["monitor"], mode=mode, say=say_here, **stopping)
        )
    found += transfer.callbacks(HookReporter(publish, say_here))
    return [*found, RunCheckpoint(folder.checkpoints, stop, **checkpoint)]


# how torch's allocator for the CPU says it, as a plain RuntimeError
OUT_OF_MEMORY_TEXTS = ("can't allocate memory", "not enough memory")


@contextmanager
def explain_out_of_memory(key: str, rows: int, more: str = "") -> Iterator[None]:
    """Turn running out of memory into an error that names a batch size to try."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        smaller = f"try {key}={rows // 2}" if rows > 1 else "use a smaller model"
        size = count(rows, "row")
        raise PollinateError(f"memory ran out in batches of {size}; {smaller}{more}") from error


def is_out_of_memory(error: Exception) -> bool:
    plain = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return plain or any(text in str(error) for text in OUT_OF_MEMORY_TEXTS)
