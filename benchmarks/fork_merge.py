"""Negative transfer on demand, and what fork_merge makes of it.

    python -m benchmarks.fork_merge [labels=50] [seeds=0,1,2] [rounds=10] [steps=30]

Two tasks on MNIST digits of the quickstart data, no picture in both: ``upright`` with all labels,
and ``rotated`` by 90 degrees with a few. ``rotated`` is to be made good. Compared at the same
number of optimizer steps on the way from the first weights to the last:
  alone       rotated only: the baseline,
  joint       both tasks in each step, equal weights,
  fork_merge  from the same start a branch with both tasks and one with rotated only, merged on
              validation every ``steps`` steps or rolled back.
Printed are test accuracies of ``rotated`` by seed, and the coefficients that were accepted.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from datamodules.cache import Cache, default_cache
from datamodules.sources.quickstart import Quickstart

SIZES = {"upright": {"train": 2500, "valid": 200, "test": 300}}
ROTATED = {"valid": 500, "test": 1000}
WAYS = ("alone", "joint", "fork_merge")
OPTIONS = (
    *("tracking=none", "sampler=uniform", "sampler.batch_size=64", "balancer=equal"),
    *("schedule=constant", "optimizer=adam", "optimizer.lr=0.002", "encoder.image.dropout=0"),
    *("encoder.image.width=8", "dim=16"),  # small, so that the tasks are in each other's way
    *("checkpoint.monitor=valid/rotated/accuracy", "gradients.every_n_steps=0"),
)


def write_data(folder: Path, labels: int) -> None:
    """Write the two sets as npz files, and the data files of both tasks and of one."""
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
    for file, names in (("both", ("upright", "rotated")), ("rotated", ("rotated",))):
        datasets = {n: {"source": "npz", "path": f"{n}.npz", **READ} for n in names}
        tasks = {n: {"dataset": n, "type": "classification", "target": "digit"} for n in names}
        content = {"datasets": datasets, "tasks": tasks, "image": IMAGE}
        (folder / f"{file}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


READ = {"inputs": {"image": "image"}, "split": {"column": "part"}}
IMAGE = {"size": [28, 28], "channels": 1, "shift": 2.0, "rotate": 0.0, "scale": 0.0}


def arguments(way: str, folder: Path, rounds: int, steps: int) -> list[str]:
    """Return the command line of a way."""
    data = f"data={folder / ('rotated' if way == 'alone' else 'both')}.yaml"
    if way == "alone":  # as many rows of rotated in a step
        return [data, f"sampler.steps_per_epoch={steps}", "sampler.batch_size=32"]
    if way == "joint":
        return [data, f"sampler.steps_per_epoch={steps}"]
    chosen = [
        "transfer=fork_merge",
        "transfer.targets=[rotated]",
        "transfer.tolerance.rotated=0.01",
    ]
    return [data, *chosen, f"transfer.every_n_steps={steps}"]


def run(way: str, seed: int, folder: Path, rounds: int, steps: int) -> tuple[float, list[str]]:
    """Train; return the test accuracy of rotated, and what the rounds said."""
    target = folder / f"{way}-{seed}"
    command = [sys.executable, "-m", "pipeline.fit", *OPTIONS, f"seed={seed}"]
    command += [*arguments(way, folder, rounds, steps), f"trainer.max_epochs={rounds}"]
    done = subprocess.run(
        [*command, f"run_dir={target}"], check=True, capture_output=True, text=True
    )
    summary = json.loads((target / "summary.json").read_text(encoding="utf-8"))
    lines = [line for line in done.stdout.splitlines() if line.startswith("round ")]
    return summary["test"]["rotated"]["accuracy"], lines


def report(found: Mapping[str, list[float]]) -> None:
    """Print a line a way."""
    for way, scores in found.items():
        shown = "  ".join(f"{score:.3f}" for score in scores)
        gaps = [s - base for s, base in zip(scores, found["alone"], strict=False)]
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        mean, gap = statistics.mean(scores), statistics.mean(gaps)
        print(f"{way:11} {shown}   {mean:.3f} +- {spread:.3f}   against alone {gap:+.3f}")


def main() -> None:
    """Run all ways with all seeds."""
    options = {"labels": "50", "seeds": "0,1,2", "rounds": "10", "steps": "30"}
    options |= dict(argument.split("=", 1) for argument in sys.argv[1:])
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, int(options["labels"]))
        for seed in map(int, options["seeds"].split(",")):
            for way in WAYS:
                rounds, steps = int(options["rounds"]), int(options["steps"])
                score, lines = run(way, seed, folder, rounds, steps)
                found[way].append(score)
                print(f"seed {seed}  {way:11} {score:.3f}", *lines, sep="\n  ", flush=True)
    report(found)


if __name__ == "__main__":
    main()
