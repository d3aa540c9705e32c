"""Epochs of a frozen encoder whose features are kept on disk against epochs that compute them.

    python -m benchmarks.feature_cache [rounds=3] [epochs=3] [rows=400] [case=NAME] [OVERRIDES ...]

Cases: minilm reads the quickstart's texts, cut at 48 tokens; efficientnet_lite0 its optdigits at
96 x 96; minilm_tokens is minilm with a trunk that looks at every token. In each round three runs
with the same seed take turns:
  computed   ``tune.cache=false``: the backbone runs in every step,
  first      features are computed, kept, and read,
  later      features that an earlier run kept are read.
An epoch is the time from one validation's end to the next one's: training and validating. Printed
are medians over the rounds, the lowest and the highest round, of
  epoch      an epoch of `computed` as a multiple of one of `first`,
  run        `computed` from command to table as a multiple of `first` and of `later`,
the largest difference of any loss or score between `computed` and `first`, and the disk's need.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.common import fit_here, numbers_and_rest
from pipeline.command import silence_libraries
from pipeline.run_folder import RunFolder
from pipeline.tracking.journals import read_points

TEXTS = {"reviews": ("text", "review", "score"), "courses": ("text", "title", "subject")}
DIGITS = {"optdigits": ("image", "image", "digit")}
MINILM = ("encoder/text=minilm", "encoder.text.tune=frozen", "data.text.max_length=48")
LITE = ("encoder/image=efficientnet_lite0", "encoder.image.tune=frozen")
CASES = {
    "minilm": (TEXTS, MINILM),
    "minilm_tokens": (TEXTS, (*MINILM, "trunk=task_queries")),
    "efficientnet_lite0": (DIGITS, LITE),
}


@dataclass
class Run:
    """seconds: from command to table; epoch: median of all but the first; numbers: its losses."""

    seconds: float
    epoch: float
    numbers: dict[tuple[str, int], float]


def data_file(folder: Path, datasets: dict[str, tuple[str, str, str]], rows: int) -> Path:
    """Write the data file of a case; return its path."""
    image = {"size": [96, 96], "channels": 1, "shift": 0.0, "rotate": 0.0, "scale": 0.0}
    spec = {
        "datasets": {
            name: {
                "source": "quickstart",
                "name": name,
                "rows": rows,
                "inputs": {modality: column},
                "split": {"train": 0.8, "valid": 0.1, "test": 0.1},
            }
            for name, (modality, column, _) in datasets.items()
        },
        "tasks": {
            f"{name}_{target}": {"dataset": name, "type": "classification", "target": target}
            for name, (_, _, target) in datasets.items()
        },
        "image": image,
    }
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def measured(folder: Path, arguments: Sequence[str]) -> Run:
    """Train; return times and numbers."""
    started = time.perf_counter()
    fit_here([*arguments, f"run_dir={folder}", "tracking=none"])
    seconds = time.perf_counter() - started
    points = list(read_points(RunFolder(folder).metrics))
    ends = [point.time_ms / 1e3 for point in points if point.key == "valid/score"]
    numbers = {
        (point.key, point.step): point.value
        for point in points
        if point.key.startswith(("train/", "valid/", "test/")) and "per_second" not in point.key
    }
    return Run(seconds, statistics.median(b - a for a, b in itertools.pairwise(ends)), numbers)


def compare(case: str, numbers: dict[str, int], overrides: Sequence[str]) -> None:
    datasets, options = CASES[case]
    ratios: dict[str, list[float]] = {"epoch": [], "run, first": [], "run, later": []}
    apart, size = 0.0, 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        arguments = [f"data={data_file(folder, datasets, numbers['rows'])}", *options]
        arguments += [f"trainer.max_epochs={numbers['epochs']}", *overrides]
        switch = next(o for o in options if o.endswith("tune=frozen")).partition("=")[0]
        for number in range(numbers["rounds"]):
            runs = {
                kind: measured(folder / f"{kind}{number}", [*arguments, *more])
                for kind, more in (
                    ("computed", [f"data.cache={folder}/none", f"{switch}.cache=false"]),
                    ("first", [f"data.cache={folder}/{number}"]),
                    ("later", [f"data.cache={folder}/{number}"]),
                )
            }
            computed, first, later = runs["computed"], runs["first"], runs["later"]
            ratios["epoch"].append(computed.epoch / first.epoch)
            ratios["run, first"].append(computed.seconds / first.seconds)
            ratios["run, later"].append(computed.seconds / later.seconds)
            same = first.numbers.items()
            apart = max(apart, *(abs(v - computed.numbers[key]) for key, v in same))
            kept = (folder / str(number) / "features").rglob("*.flat")
            size = sum(path.stat().st_size for path in kept)
            print(f"round {number + 1}: epoch {computed.epoch:.2f} s and {first.epoch:.2f} s")
    for name, found in ratios.items():
        low, middle, high = min(found), statistics.median(found), max(found)
        print(f"{case}, {name}: {middle:.1f} ({low:.1f} to {high:.1f})")
    print(f"{case}: numbers differ by at most {apart:.1e}; {size / 1e6:.1f} MB on disk", flush=True)


def main() -> None:
    numbers, rest = numbers_and_rest({"rounds": 3, "epochs": 3, "rows": 400})
    cases = [text.removeprefix("case=") for text in rest if text.startswith("case=")]
    overrides = [text for text in rest if not text.startswith("case=")]
    silence_libraries()
    for case in cases or CASES:
        compare(case, numbers, overrides)


if __name__ == "__main__":
    main()
