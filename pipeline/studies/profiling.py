"""Builds the multi-task run once: what its data are, and how long its steps take."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from lightning.pytorch import Callback, seed_everything

from datamodules.mixed_datamodule import MixedDataModule
from datamodules.modalities.text import TextModality
from lightning_modules.tasks.base import as_task
from pipeline.build import build_datamodule, build_module
from pipeline.frozen_features import cacheable_modalities
from pipeline.studies.plan import MultiTaskFacts, TaskFacts, optimizer_steps
from pipeline.trainer import NO_TRANSFER, quiet_trainer
from pollinate.errors import PollinateError

UNKNOWN = "how long a step takes isn't known"
TIMED = 6  # steps, of which the first don't count
WARM = 2


def profile_multi_task(
    config: Mapping[str, Any], started: float, timed: bool = True, tokenizer: Path | None = None
) -> MultiTaskFacts:
    """Return the facts of a study.

    Args:
        config: of the multi-task run.
        started: ``time.perf_counter()`` when the command began.
        timed: whether steps are timed.
        tokenizer: a file for the tokenizer that is trained on the run's own texts, so that other
            runs read them alike; None: it isn't kept.

    Raises:
        PollinateError: the data can't be read, or a task has no labels to validate by.
    """
    data = build_datamodule(config)
    data.setup()
    tasks = {name: task_facts(data, name) for name in data.tasks}
    steps = optimizer_steps(config["trainer"], data.epoch_steps)
    start = time.perf_counter() - started
    step, notes = time_steps(config, data) if timed else (None, [])
    facts = MultiTaskFacts(
        tasks,
        data.sampler.counts(data.sizes),
        data.sampler.batch_size,
        data.epoch_steps,
        steps,
        evaluated_rows(config["trainer"], data, steps),
        "tokenizer" in data.learnt_state()["modalities"].get("text", {}),
        start,
        step,
        notes,
    )
    if tokenizer is not None and facts.learns_tokens:
        text = data.modalities["text"]
        assert isinstance(text, TextModality), "it learns tokens"
        text.tokenizer.save(tokenizer)
    del data
    gc.collect()  # the trials need the memory
    return facts


def task_facts(data: MixedDataModule, name: str) -> TaskFacts:
    """Return the facts of a task."""
    spec = data.tasks[name]
    labelled = {
        split: any(bool(data.parts[split][d].present[name].any()) for d in spec.datasets)
        for split in ("valid", "test")
    }
    if not labelled["valid"]:
        raise PollinateError(
            f"each run's weights are chosen by validation scores, and task {name} has no "
            f"labels in valid (data set {', '.join(spec.datasets)}); label some rows, draw them "
            "from the training rows: split: {..., valid: 0.1}, or leave the task out: tasks=[...]"
        )
    modalities = sorted({m for d in spec.datasets for m in data.datasets[d].inputs})
    return TaskFacts(list(spec.datasets), modalities, as_task(spec).score, labelled["test"])


def evaluated_rows(trainer: Mapping[str, Any], data: MixedDataModule, steps: int) -> dict[str, int]:
    """Return {data set: rows scored in the whole run}: each epoch's, and the best weights'."""
    passes = max(1, round(steps / max(1, data.epoch_steps)))
    interval = trainer.get("val_check_interval")
    if isinstance(interval, int) and interval > 0:
        passes = max(1, steps // interval)
    elif isinstance(interval, float):
        passes = round(passes / interval)
    valid, test = data.parts["valid"], data.parts["test"]
    return {name: (passes + 1) * valid[name].size + test[name].size for name in data.datasets}


class StepClock(Callback):
    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *_: object) -> None:
        self.times.append(time.perf_counter())


def time_steps(config: Mapping[str, Any], data: MixedDataModule) -> tuple[float | None, list[str]]:
    """Return the seconds of a multi-task step, None with a note where it can't be had."""
    clock = StepClock()
    try:
        seed_everything(config["seed"], verbose=False)
        trainer = {**config["trainer"], "max_steps": TIMED}
        own = {**config, "trainer": trainer, "transfer": NO_TRANSFER, "compile": False}
        module = build_module(own, data, load=False)
        kept = cacheable_modalities(module.network, data)
        if kept:  # the first run computes them, all others read
            return None, [f"features of {', '.join(kept)} are kept: {UNKNOWN} till runs are done"]
        run = quiet_trainer(config["trainer"], [clock], max_steps=TIMED, limit_val_batches=0)
        module.engine.attach(run.strategy)
        run.fit(module, datamodule=data)
    except Exception as error:  # noqa: BLE001  # whatever it is, the trials will say so themselves
        reason = " ".join(str(error).split())
        return None, [f"{UNKNOWN}: {reason}"]
    gaps = [late - early for early, late in zip(clock.times, clock.times[1:], strict=False)]
    known = gaps[min(WARM, len(gaps) - 1) :] if gaps else []
    return (median(known), []) if known else (None, [UNKNOWN])
