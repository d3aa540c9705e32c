"""Scores against numbers sent: DDP, local SGD and DiLoCo in two processes on the CPU.

    python -m benchmarks.local_sgd [seeds=0,1,2] [steps=400] [every=10,50,200] [OPTION OF FIT ...]

Two tasks of digits (``data=quickstart`` for all four of the quickstart), the same rows in the same
steps in all runs, one validation at the end. Printed are the mean test score of the tasks (mean and
standard deviation over seeds), synchronisations, and floats that each process sent.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import deviation, fit_apart

DIGITS = Path(__file__).parent / "sets" / "digits.yaml"
TWO = ("trainer.accelerator=cpu", "trainer.devices=2", "tracking=none", "gradients.every_n_steps=0")


def ways(every: list[int]) -> dict[str, tuple[str, ...]]:
    """Return {name: options}."""
    found: dict[str, tuple[str, ...]] = {"ddp": ("trainer=ddp",)}
    for name in ("local_sgd", "diloco"):
        for steps in every:
            chosen = (f"trainer={name}", f"trainer.averaging.every_n_steps={steps}")
            found[f"{name}, every {steps}"] = chosen
    return found


def run(options: tuple[str, ...]) -> dict[str, Any]:
    """Train; return summary.json."""
    with tempfile.TemporaryDirectory() as folder:
        return fit_apart(Path(folder, "run"), *options, *TWO)


def score(summary: dict[str, Any]) -> float:
    return statistics.mean(task["accuracy"] for task in summary["test"].values())


def main() -> None:
    """Run all ways with all seeds; print the table."""
    options = {"seeds": "0,1,2", "steps": "400", "every": "10,50,200", "data": str(DIGITS)}
    options |= dict(argument.split("=", 1) for argument in sys.argv[1:])
    steps = options.pop("steps")
    chosen = [f"trainer.max_steps={steps}", f"sampler.steps_per_epoch={steps}"]
    chosen += [f"{key}={value}" for key, value in options.items() if key not in ("seeds", "every")]
    print(f"{'way':22} {'score':>15} {'synchronised':>13} {'floats sent':>13} {'of ddp':>7}")
    most = 0
    for name, own in ways([int(count) for count in options["every"].split(",")]).items():
        found = [run((*own, *chosen, f"seed={seed}")) for seed in options["seeds"].split(",")]
        scores = [score(one) for one in found]
        sent = found[0]["floats_sent"]
        most = most or sent
        print(
            f"{name:22} {statistics.mean(scores):7.3f} +- {deviation(scores):.3f} "
            f"{found[0]['synchronisations']:13,} {sent:13,} {sent / most:7.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
