"""What a teacher costs whose outputs are kept, and one that looks at every step.

    python -m benchmarks.distillation_cost [rounds=5] [steps=100] [OVERRIDES ...]

A teacher of the default network is trained for a few steps on the quickstart's 5,000 digits, then
students of the same network take turns in every round, in one process:
  plain    without a teacher,
  kept     transfer=hinton, outputs computed before; pictures are not augmented,
  live     the same with pictures that are moved, against plain with pictures that are moved.
Printed are medians over the rounds, the lowest and the highest, of the time from the first step's
end to the last step's end as a multiple of plain.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import fit_here, numbers_and_rest
from benchmarks.distillation import write_data
from lightning_modules.module import MultiTaskModule
from pipeline import training_run as record
from pipeline.command import silence_libraries

MOVED = ("data.image.shift=2.0", "data.image.rotate=10.0")
TAUGHT = "transfer=hinton"


def stepping(folder: Path, name: str, steps: int, options: Sequence[str]) -> float:
    """Train; return the seconds from the first step's end to the last one's."""
    ends: list[float] = []
    step = MultiTaskModule.optimizer_step

    def timed(module: MultiTaskModule, *args: Any, **kwargs: Any) -> None:
        step(module, *args, **kwargs)
        ends.append(time.perf_counter())

    MultiTaskModule.optimizer_step = timed  # type: ignore[method-assign]  # to look at the clock
    arguments = [f"data={folder}/all.yaml", f"data.cache={folder}/cache", "tracking=none"]
    arguments += ["gradients.every_n_steps=0", f"trainer.max_steps={steps}"]
    arguments += [f"run_dir={folder}/{name}", f"sampler.steps_per_epoch={steps}"]
    try:
        fit_here([*arguments, *options])
    finally:
        MultiTaskModule.optimizer_step = step  # type: ignore[method-assign]  # as it was
    return ends[-1] - ends[0]


def main() -> None:
    numbers, overrides = numbers_and_rest({"rounds": 5, "steps": 100})
    silence_libraries()
    record.draw_plots = lambda *_: []
    ratios: dict[str, list[float]] = {"kept": [], "live": []}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_data(folder, 0, 200)
        stepping(folder, "teacher", 5, [])
        taught = [TAUGHT, f"transfer.teachers={folder}/teacher", *overrides]
        for number in range(numbers["rounds"] + 1):  # the first fills the cache and warms up
            for kind, moved in (("kept", ()), ("live", MOVED)):
                name = f"{kind}{number}"
                plain = stepping(folder, f"plain-{name}", numbers["steps"], [*overrides, *moved])
                own = stepping(folder, name, numbers["steps"], [*taught, *moved])
                if number:
                    ratios[kind].append(own / plain)
                    print(f"round {number}: {kind} {own / plain:.2f}", file=sys.stderr, flush=True)
    for kind, found in ratios.items():
        low, middle, high = min(found), statistics.median(found), max(found)
        print(f"{kind}: {middle:.2f} of plain ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
