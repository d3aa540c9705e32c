"""A small student taught by a larger network, where labels are few and where they are many.

    python -m benchmarks.distillation [seeds=3] [steps=1000] [labels=200] [case=NAME ...]

The 5,000 handwritten digits of the quickstart: 4,000 for training, 200 to choose the best
checkpoint, 800 for testing, split anew and labelled anew by each seed. The teacher is the default
convolutional network, the student a perceptron whose only layer has 16 units; pictures are not
augmented. Cases, each with the same number of steps:
  few        the student alone, on the rows with a label
  hinton, decoupled, dist, annealed
             the same labels, all training rows, and a teacher that learnt from all labels
  own        as hinton, with a teacher that learnt from the same few labels
  all        the student alone, all labels
  all_hinton as hinton, all labels
Printed are test accuracies in percent: mean and standard deviation over the seeds, and the
difference from the student alone, paired by seed.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from benchmarks.common import deviation, fit_here, numbers_and_rest, summary_of
from datamodules.cache import Cache
from datamodules.sources.quickstart import Quickstart
from pipeline import training_run as record
from pipeline.command import silence_libraries

STUDENT = ("encoder/image=mlp", "dim=16", "trunk.depth=0", "optimizer.lr=0.002")
VALID, TEST = 200, 800
CASES = {  # {case: (data, teacher or None, options)}
    "few": ("few", None, ()),
    "hinton": ("some", "teacher", ("transfer=hinton",)),
    "decoupled": ("some", "teacher", ("transfer=decoupled",)),
    "dist": ("some", "teacher", ("transfer=dist",)),
    "annealed": ("some", "teacher", ("transfer=annealed",)),
    "own": ("some", "teacher_few", ("transfer=hinton",)),
    "all": ("all", None, ()),
    "all_hinton": ("all", "teacher", ("transfer=hinton",)),
}
TEACHERS = {"teacher": "all", "teacher_few": "few"}


def write_data(folder: Path, seed: int, labels: int) -> None:
    """Write three data files: ``all`` labels, ``some`` labels, and the ``few`` rows that have one.

    The few labels are shared out evenly among the digits.
    """
    columns = Quickstart("mnist").load(Cache(folder / "cache")).columns
    images, digits = np.asarray(columns["image"]), np.asarray(columns["digit"]).astype(float)
    order = np.random.default_rng(seed).permutation(len(digits))
    split = np.array(["test"] * len(digits), dtype="<U5")
    split[order[TEST : TEST + VALID]] = "valid"
    train = order[TEST + VALID :]
    split[train] = "train"
    kept = [train[digits[train] == digit][: labels // 10] for digit in range(10)]
    some = np.where(split == "train", np.nan, digits)
    some[np.concatenate(kept)] = digits[np.concatenate(kept)]
    for name, own, rows in (
        ("all", digits, split != ""),
        ("some", some, split != ""),
        ("few", some, ~np.isnan(some)),
    ):
        pixels = images[rows].astype(np.uint8)
        np.savez(folder / f"{name}.npz", image=pixels, digit=own[rows], split=split[rows])
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(data_of(f"{name}.npz")))


def data_of(path: str) -> dict[str, object]:
    return {
        "datasets": {
            "mnist": {
                "source": "npz",
                "path": path,
                "inputs": {"image": "image"},
                "split": {"column": "split"},
            }
        },
        "tasks": {"digit": {"dataset": "mnist", "type": "classification", "target": "digit"}},
        "image": {"size": [28, 28], "channels": 1, "shift": 0.0, "rotate": 0.0, "scale": 0.0},
    }


def trained(folder: Path, name: str, data: str, seed: int, options: Sequence[str]) -> float:
    """Train; return the test accuracy in percent."""
    arguments = [f"data={folder}/{data}.yaml", f"data.cache={folder}/cache", f"seed={seed}"]
    arguments += ["tracking=none", f"run_dir={folder}/{name}", "gradients.every_n_steps=0"]
    fit_here([*arguments, *options])
    return 100 * float(summary_of(folder / name)["test"]["digit"]["accuracy"])


def compare(seed: int, steps: int, labels: int, cases: Sequence[str]) -> dict[str, float]:
    """Return {case: accuracy} of one seed."""
    found: dict[str, float] = {}
    length = [f"trainer.max_steps={steps}", "sampler.batch_size=128"]
    length += [f"sampler.steps_per_epoch={max(1, steps // 10)}"]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_data(folder, seed, labels)
        needed = {CASES[case][1] for case in cases} - {None}
        for name, data in TEACHERS.items():
            if name in needed:
                own = ["trainer.max_steps=300", "sampler.steps_per_epoch=100"]
                found[name] = trained(folder, name, data, seed, own)
        for case in cases:
            data, teacher, options = CASES[case]
            options = (*STUDENT, *length, *options)
            if case == "annealed":
                method = f"{{name: hinton, alpha: 1.0, teachers: {folder}/{teacher}}}"
                options = (*options, f"transfer.method={method}")
            elif teacher is not None:
                options = (*options, f"transfer.teachers={folder}/{teacher}")
            found[case] = trained(folder, case, data, seed, options)
            print(f"seed {seed}: {case} {found[case]:.1f}", file=sys.stderr, flush=True)
    return found


def main() -> None:
    numbers, rest = numbers_and_rest({"seeds": 3, "steps": 1000, "labels": 200})
    cases = [text.partition("=")[2] for text in rest]
    silence_libraries()
    record.draw_plots = lambda *_: []  # plots take longer than the students
    seeds = range(numbers["seeds"])
    rows = [compare(s, numbers["steps"], numbers["labels"], cases or list(CASES)) for s in seeds]
    for case in rows[0]:
        scores = [row[case] for row in rows]
        text = f"{case}: {mean_and_deviation(scores)}"
        base = "all" if case.startswith("all") else "few"
        if base in rows[0] and case not in (base, *TEACHERS):
            gains = [row[case] - row[base] for row in rows]
            text += f", {mean_and_deviation(gains, '+')} against {base}"
        print(text)


def mean_and_deviation(values: Sequence[float], sign: str = "") -> str:
    """Return ``mean (standard deviation)``."""
    return f"{statistics.mean(values):{sign}.1f} ({deviation(values):.1f})"


if __name__ == "__main__":
    main()
