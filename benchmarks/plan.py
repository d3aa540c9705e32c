"""What pipeline.plan says of memory and operations, and what a training step really takes.

    python -m benchmarks.plan [NAME ...]

Each case runs in processes of its own, without a GPU: one plans, one trains for three steps on the
batch with the longest rows. Measured are
  FLOPs      torch.utils.flop_counter.FlopCounterMode, forward and backward, with attention on a
             CPU added, which it lacks, and the backward of convolutions counted by their groups,
  allocator  the most bytes that torch's allocator had handed out, by torch.profiler, and
  resident   the most memory that the process gained (VmHWM), after a run of another model has
             loaded all libraries; malloc gives what is freed back to the system at once, which
             glibc otherwise does late: ``resident, glibc`` is with its defaults.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader
from torch.utils.flop_counter import (
    FlopCounterMode,
    conv_flop_count,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from datamodules.batch import MixedBatch
from datamodules.loaders import EpochPlan, RankSlice, TrainingSteps
from datamodules.mixed_datamodule import MixedDataModule
from pipeline.build import build_datamodule, build_module
from pipeline.command import silence_libraries
from pipeline.configuration.composition import compose
from pipeline.planning.cost import cost_estimator
from pipeline.planning.counter import ATTENTION, ATTENTION_BACKWARD
from pipeline.planning.dry_run import STEPS
from pipeline.trainer import quiet_trainer

MINILM = ["encoder/text=minilm", "dim=384", "data.text.max_length=64", "sampler.batch_size=48"]
PHOTOS = [
    "data=tests/data/image_folder.yaml",
    "encoder/image=efficientnet_lite0",
    "data.image.size=null",
    "sampler.batch_size=16",
]
CASES: dict[str, list[str]] = {
    "quickstart": [],
    "minilm": MINILM,
    "minilm_frozen": [*MINILM, "encoder.text.tune=frozen"],
    "minilm_lora": [*MINILM, "encoder.text.tune=lora"],
    "minilm_checkpointing": [*MINILM, "encoder.text.checkpointing=true"],
    "minilm_bf16": [*MINILM, "trainer.precision=bf16-mixed"],
    "efficientnet": PHOTOS,
    "efficientnet_checkpointing": [*PHOTOS, "encoder.image.checkpointing=true"],
    "upgrad": ["balancer=upgrad", "balancer.level=parameters"],
    "graddrop": ["balancer=graddrop"],
    "momentum": ["optimizer=momentum", "optimizer.lr=0.01"],
}
RETURNS = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}


def longest_batch(data: MixedDataModule) -> MixedBatch:
    """Return the batch with most numbers among those that the plan looks at."""
    steps = TrainingSteps(
        data.parts["train"], EpochPlan(data.sampler, data.sizes), data.seed, RankSlice()
    )
    if not any(
        store.lengths() is not None for p in steps.parts.values() for store in p.stores.values()
    ):
        return steps[0]

    def size(step: int) -> int:
        batches = steps[step].batches.values()
        return sum(rows.numel() for batch in batches for rows in batch.inputs.values())

    return steps[max(range(min(STEPS, data.epoch_steps)), key=size)]


def train(config: dict[str, Any], module: Any, batch: MixedBatch, steps: int = 3) -> None:
    options = {**config["trainer"], "accelerator": "cpu"}
    trainer = quiet_trainer(options, [], max_steps=steps, max_epochs=-1, limit_val_batches=0)
    trainer.fit(module, train_dataloaders=DataLoader([batch] * steps, batch_size=None))


def prepared(overrides: Sequence[str]) -> tuple[dict[str, Any], MixedDataModule]:
    config = compose("fit", overrides)
    data = build_datamodule(config)
    data.setup()
    return config, data


def figures(overrides: Sequence[str]) -> dict[str, float]:
    """Return what is planned, the FLOPs of a real step, and the allocator's peak.

    The plan is that of a training step alone, as evaluation isn't measured.
    """
    estimate = cost_estimator(compose("plan", overrides))
    own = estimate.data.sampler.counts(estimate.data.sizes)
    step = estimate.dry_run.step(estimate.longest, own)
    config, data = prepared(overrides)
    module, batch = build_module(config, data), longest_batch(data)
    return {
        "planned_flops": sum(step.forward.values()) + sum(step.backward.values()),
        "planned": estimate.memory_cost(step).total,
        "flops": counted_flops(config, module, batch),
        "allocator": allocator_peak(config, module, batch),
    }


def counted_flops(config: dict[str, Any], module: Any, batch: MixedBatch) -> int:
    """Return what torch's counter finds in a real step, forward and backward."""
    custom = {
        ATTENTION: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        ATTENTION_BACKWARD: lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v),
        torch.ops.aten.convolution_backward: convolution_gradients,
    }
    with FlopCounterMode(display=False, custom_mapping=custom) as counter:
        train(config, module, batch, 1)
    return counter.get_total_flops()


def convolution_gradients(gradient: Any, inputs: Any, weight: Any, *rest: Any, **_: Any) -> int:
    return int(conv_flop_count(inputs, weight, gradient, rest[4])) * sum(rest[7][:2])


def allocator_peak(config: dict[str, Any], module: Any, batch: MixedBatch) -> int:
    """Return the most bytes that torch's allocator had handed out, with the model's weights."""
    for parameter in module.parameters():
        parameter.grad = None
    weights = [*module.network.parameters(), *module.network.buffers()]
    live = peak = sum(tensor.untyped_storage().nbytes() for tensor in weights)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        train(config, module, batch, 2)
    assert watched.profiler is not None
    assert watched.profiler.kineto_results is not None
    events = watched.profiler.kineto_results.events()
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def resident(overrides: Sequence[str]) -> dict[str, float]:
    """Return the memory that the process gained at its peak."""
    config, data = prepared(overrides)
    batch = longest_batch(data)
    precision = [text for text in overrides if text.startswith("trainer.precision")]
    other, small = prepared(["experiment=smoke", *precision])
    train(other, build_module(other, small), longest_batch(small))
    del small
    trimmed()
    before = status("VmRSS")
    module: nn.Module = build_module(config, data)
    trimmed()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # VmHWM begins anew
    train(config, module, batch)
    return {"resident": status("VmHWM") - before}


def trimmed() -> None:
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)


def status(key: str) -> int:
    """Return a figure of this process in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


WAYS: dict[str, Callable[[Sequence[str]], dict[str, float]]] = {
    "figures": figures,
    "resident": resident,
}


def apart(way: str, name: str, **environment: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.plan", "--way", way, name]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(name: str) -> str:
    """Return a case's line: planned, measured, and planned / measured."""
    once = apart("figures", name)
    measured = {
        "allocator": once["allocator"],
        "resident": apart("resident", name, **RETURNS)["resident"],
        "glibc": apart("resident", name)["resident"],
    }
    planned = once["planned"]
    ratios = [f"{value / 1e6:8.1f} ({planned / value:.3f})" for value in measured.values()]
    flops = f"{once['planned_flops'] / 1e9:8.2f} ({once['planned_flops'] / once['flops']:.3f})"
    return "  ".join([f"{name:26}", flops, f"{planned / 1e6:8.1f}", *ratios])


def main() -> None:
    """Print planned, measured, and (planned / measured)."""
    silence_libraries()
    if sys.argv[1:2] == ["--way"]:
        way, name = sys.argv[2:]
        torch.manual_seed(0)
        print(json.dumps(WAYS[way](CASES[name])))
        return
    print("case, GFLOPs a step, MB: planned, allocator, resident, resident with glibc's defaults")
    for name in sys.argv[1:] or CASES:
        print(row(name), flush=True)


if __name__ == "__main__":
    main()
