"""Negative transfer on demand, and what fork_merge makes of it.

    python -m benchmarks.fork_merge [labels=50] [dim=16] [seeds=0,1,2] [rounds=20] [steps=30]

Two tasks on MNIST digits of the quickstart data, no picture in both: ``upright`` with all labels,
and ``rotated`` by 90 degrees with a few. ``rotated`` is to be made good. ``dim`` is the network's
width: 16 is too narrow for both, 32 is not. Compared at the same number of optimizer steps on the
way from the first weights to the last:
  single_task  each task in a model of its own, with as many of its rows in a step: the
               baselines,
  multi_task   both tasks in each step, equal weights,
  target       fork_merge of two branches, both tasks and rotated only, merged on validation every
               ``steps`` steps, or rolled back if rotated falls beyond TOLERANCE; upright may
               fall,
  both         fork_merge from the single-task model of upright, which is a score to keep, of three
               branches, with one of upright only besides; neither task may fall.
Printed are test accuracies by seed, and the coefficients that were accepted.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from benchmarks.common import deviation, summary_of
from datamodules.cache import Cache, default_cache
from datamodules.sources.quickstart import Quickstart

SIZES = {"upright": {"train": 1200, "valid": 500, "test": 750}}
ROTATED = {"valid": 1000, "test": 1500}
TASKS = ("rotated", "upright")
TOLERANCE = 0.02
FORKS = {  # {way: (branches, tasks that are held)}
    "target": ("{multi_task: {}, rotated: {upright: 0}}", ("rotated",)),
    "both": ("{multi_task: {}, rotated: {upright: 0}, upright: {rotated: 0}}", TASKS),
}
WAYS = ("single_task", "multi_task", *FORKS)
OPTIONS = (
    *("tracking=none", "sampler=uniform", "sampler.batch_size=64", "balancer=equal"),
    *("schedule=constant", "optimizer=adam", "optimizer.lr=0.002", "encoder.image.dropout=0"),
    *("encoder.image.width=8", "gradients.every_n_steps=0"),
)


def write_data(folder: Path, labels: int) -> None:
    table = Quickstart("mnist").load(Cache(default_cache())).columns
    images, digits = np.asarray(table["image"]), np.asarray(table["digit"])
    order = np.random.default_rng(0).permutation(len(images))
    taken = 0
    for name, sizes in (SIZES | {"rotated": {"train": labels, **ROTATED}}).items():
        parts = np.repeat(list(sizes), list(sizes.values()))
        rows = order[taken : taken + len(parts)]
        taken += len(parts)
        pictures = np.rot90(images[rows], axes=(1, 2)) if name == "rotated" else images[rows]
        np.savez(folder / f"{name}.npz", image=pictures, digit=digits[rows], part=parts)
    for file, names in (("both", TASKS), *((task, (task,)) for task in TASKS)):
        datasets = {n: {"source": "npz", "path": f"{n}.npz", **READ} for n in names}
        tasks = {n: {"dataset": n, "type": "classification", "target": "digit"} for n in names}
        content = {"datasets": datasets, "tasks": tasks, "image": IMAGE}
        (folder / f"{file}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


READ = {"inputs": {"image": "image"}, "split": {"column": "part"}}
IMAGE = {"size": [28, 28], "channels": 1, "shift": 2.0, "rotate": 0.0, "scale": 0.0}


def arguments(way: str, seed: int, folder: Path, steps: int) -> dict[str, list[str]]:
    """Return {data file: the command line} of a way's runs."""
    if way == "single_task":  # as many rows of the task in a step as beside the other
        own = [f"sampler.steps_per_epoch={steps}", "sampler.batch_size=32"]
        monitors = {task: f"checkpoint.monitor=valid/{task}/accuracy" for task in TASKS}
        return {task: [f"data={folder / task}.yaml", *own, monitors[task]] for task in TASKS}
    both = [f"data={folder / 'both'}.yaml", "checkpoint.monitor=valid/rotated/accuracy"]
    if way == "multi_task":
        return {"both": [*both, f"sampler.steps_per_epoch={steps}"]}
    branches, held = FORKS[way]
    limits = ", ".join(f"{task}: {TOLERANCE}" for task in held)
    options = f"targets: [rotated], tolerance: {{{limits}}}, every_n_steps: {steps}"
    methods = f"fork: {{name: fork_merge, {options}, branches: {branches}}}"
    if way == "both":
        start = folder / f"single_task-upright-{seed}"
        methods = f"start: {{name: init, source: {start}}}, {methods}"
    return {"both": [*both, "transfer=several", f"transfer.methods={{{methods}}}"]}


def run(
    way: str, seed: int, folder: Path, dim: int, rounds: int, steps: int
) -> tuple[dict[str, float], list[str]]:
    """Train; return {task: test accuracy}, and what the rounds said."""
    scores: dict[str, float] = {}
    lines: list[str] = []
    for file, own in arguments(way, seed, folder, steps).items():
        target = folder / f"{way}-{file}-{seed}"
        command = [sys.executable, "-m", "pipeline.fit", *OPTIONS, f"seed={seed}", *own]
        command += [f"dim={dim}", f"trainer.max_epochs={rounds}", f"run_dir={target}"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        tested = summary_of(target)["test"]
        scores |= {task: found["accuracy"] for task, found in tested.items()}
        lines += [line for line in done.stdout.splitlines() if line.startswith("round ")]
    return scores, lines


def report(found: Mapping[str, list[dict[str, float]]]) -> None:
    for task in TASKS:
        for way, runs in found.items():
            scores = [run[task] for run in runs]
            shown = "  ".join(f"{score:.3f}" for score in scores)
            gaps = [s - base[task] for s, base in zip(scores, found["single_task"], strict=False)]
            mean, gap = statistics.mean(scores), statistics.mean(gaps)
            worst = min(gaps)
            print(
                f"{task:8} {way:11} {shown}   {mean:.3f} +- {deviation(scores):.3f}   "
                f"against single-task {gap:+.3f}, at worst {worst:+.3f}"
            )


def main() -> None:
    options = {"labels": "50", "dim": "16", "seeds": "0,1,2", "rounds": "20", "steps": "30"}
    options |= dict(argument.split("=", 1) for argument in sys.argv[1:])
    dim, rounds, steps = (int(options[key]) for key in ("dim", "rounds", "steps"))
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, int(options["labels"]))
        for seed in map(int, options["seeds"].split(",")):
            for way in WAYS:
                scores, lines = run(way, seed, folder, dim, rounds, steps)
                found[way].append(scores)
                shown = "  ".join(f"{task} {score:.3f}" for task, score in scores.items())
                print(f"seed {seed}  {way:11} {shown}", *lines, sep="\n  ", flush=True)
    report(found)


if __name__ == "__main__":
    main()
