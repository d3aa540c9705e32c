"""Few labels, from a shared multi-task start against from scratch: what the start saves.

    python -m benchmarks.positive_transfer                         # all targets, seeds 0, 1, 2
    python -m benchmarks.positive_transfer cr output=runs/start    # one target, runs kept
    python -m benchmarks.positive_transfer cr backbone=minilm      # both ways begin with MiniLM

The start is one model trained jointly on the other sets; a target's run begins with its encoder and
trunk, or without, on 10, 30 and 100% of the target's training labels, with the same steps. The
sets are those of benchmarks.real_data. A run that is in the output folder already isn't repeated.
"""

from __future__ import annotations

import csv
import math
import random
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev

import yaml
from scipy.stats import t as student

from benchmarks.common import fit_apart, is_finished, summary_of
from benchmarks.pretrained import MINILM
from benchmarks.real_data import CONV, SETS, is_there

SHARES = (0.1, 0.3, 1.0)
QUIET = ("tracking=none", "gradients.every_n_steps=0")


@dataclass(frozen=True)
class Backbone:
    """options: of all runs; start, target: of these alone; known: brings its own tokenizer."""

    options: tuple[str, ...]
    start: tuple[str, ...]
    target: tuple[str, ...]
    known: bool = False


def steps(number: int, every: int) -> tuple[str, ...]:
    """Return the options of so many steps, validated every so many."""
    validate = (f"trainer.val_check_interval={every}", "trainer.check_val_every_n_epoch=null")
    return (f"trainer.max_steps={number}", *validate)


BACKBONES = {
    "conv": Backbone(
        (*CONV, "encoder.text.channels=192"),
        ("sampler=temperature", "trainer.max_epochs=6"),
        steps(500, 50),
    ),
    "minilm": Backbone(
        (*MINILM, "sampler.batch_size=32"),
        ("sampler=temperature", *steps(500, 100)),
        steps(150, 25),
        known=True,
    ),
}
TARGETS: Mapping[str, tuple[str, str, str]] = {  # (file of the set, its data set, its task)
    "cr": ("sentences", "cr", "cr"),
    "trec": ("sentences", "trec", "trec"),
    "clinc150": ("clinc150", "clinc", "intent"),
}


def data_file(name: str) -> dict[str, dict[str, dict[str, object]]]:
    found = yaml.safe_load((SETS / f"{name}.yaml").read_text(encoding="utf-8"))
    for spec in found["datasets"].values():
        spec["path"] = str((SETS / spec["path"]).resolve())
    return found  # type: ignore[no-any-return]  # plain values


def write(folder: Path, name: str, content: Mapping[str, object]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(dict(content)), encoding="utf-8")
    return path


def start_file(target: str, folder: Path) -> Path:
    """Write the data file of the start: all sentences but the target's."""
    _, dataset, task = TARGETS[target]
    found = data_file("sentences")
    found["datasets"].pop(dataset, None)
    found["tasks"].pop(task, None)
    return write(folder, f"start-{target}", found)


def target_file(target: str, share: float, seed: int, folder: Path) -> tuple[Path, int]:
    """Write the data file of a target with a share of its training labels; return their number."""
    file, dataset, task = TARGETS[target]
    found = data_file(file)
    spec, one = found["datasets"][dataset], found["tasks"][task]
    with Path(str(spec["path"])).open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    kept, labels = thinned(rows, str(one["target"]), share, seed)
    table = folder / f"{target}-{share}-{seed}.csv"
    folder.mkdir(parents=True, exist_ok=True)
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(kept)
    spec["path"] = str(table.resolve())
    content = {"datasets": {dataset: spec}, "tasks": {task: one}}
    return write(folder, table.stem, content), labels


def thinned(
    rows: Sequence[dict[str, str]], label: str, share: float, seed: int
) -> tuple[list[dict[str, str]], int]:
    """Return the rows with a share of each class's training rows (>= 1), and their number."""
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        if row["split"] == "train":
            groups.setdefault(row[label], []).append(number)
    generator = random.Random(seed)
    chosen: set[int] = set()
    for numbers in groups.values():
        chosen.update(generator.sample(numbers, max(1, round(share * len(numbers)))))
    return [r for i, r in enumerate(rows) if r["split"] != "train" or i in chosen], len(chosen)


def train(folder: Path, arguments: Sequence[str]) -> dict[str, float]:
    """Train, unless that is done; return {task: test score}."""
    if not is_finished(folder):
        shutil.rmtree(folder, ignore_errors=True)
        fit_apart(folder, *arguments)
    return {task: scores["accuracy"] for task, scores in summary_of(folder)["test"].items()}


def scores(
    target: str, seed: int, home: Path, backbone: Backbone
) -> dict[tuple[str, float], tuple[int, float]]:
    """Return {(way, share): (labels, accuracy)} of one seed."""
    options = (*backbone.options, *QUIET)
    file = start_file(target, home / "data")
    start = home / f"start-{target}-{seed}"
    train(start, [f"data={file}", *options, *backbone.start, f"seed={seed}"])
    begin = ["transfer=init", f"transfer.source={start}", "transfer.parts=[encoders, trunk]"]
    if not backbone.known:
        begin.append(f"data.text.tokenizer={start}")
    ways: dict[str, list[str]] = {"scratch": [], "start": begin}
    found = {}
    for share in SHARES:
        path, labels = target_file(target, share, seed, home / "data")
        for way, own in ways.items():
            arguments = [f"data={path}", *options, *backbone.target, *own, f"seed={seed}"]
            score = train(home / f"{target}-{way}-{share}-{seed}", arguments)
            found[way, share] = labels, score[TARGETS[target][2]]
            print(
                f"  {target} {way} {labels} labels, seed {seed}: {found[way, share][1]:.3f}",
                flush=True,
            )
    return found


def interval(values: Sequence[float]) -> str:
    """Return mean and half the width of its 95% interval by Student's t."""
    if len(values) < 2:
        return f"{mean(values):.3f}"
    half = student.ppf(0.975, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return f"{mean(values):.3f} +- {half:.3f}"


def labels_for(accuracy: float, curve: Sequence[tuple[int, float]]) -> float | None:
    """Return how many labels give an accuracy, by lines over log(labels); None: beyond them."""
    for (low, a), (high, b) in pairwise(curve):
        if min(a, b) <= accuracy <= max(a, b) and a != b:
            part = (accuracy - a) / (b - a)
            return math.exp(math.log(low) + part * (math.log(high) - math.log(low)))
    return None


def report(target: str, found: Sequence[dict[tuple[str, float], tuple[int, float]]]) -> None:
    print(f"\n{target}: labels, from scratch, from the start, labels saved at equal accuracy")
    curve = [(found[0]["scratch", s][0], mean(f["scratch", s][1] for f in found)) for s in SHARES]
    for share in SHARES:
        labels = found[0]["start", share][0]
        ways = {way: [f[way, share][1] for f in found] for way in ("scratch", "start")}
        needed = labels_for(mean(ways["start"]), curve)
        gained = mean(ways["start"]) > mean(ways["scratch"])
        beyond = "more than there are" if gained and share == 1.0 else "-"
        saved = beyond if needed is None else f"{1 - labels / needed:+.0%}"
        print(
            f"  {labels:>6,}  {interval(ways['scratch'])}  {interval(ways['start'])}  {saved}",
            flush=True,
        )


def main(argv: Sequence[str]) -> None:
    named = dict(a.split("=", 1) for a in argv if "=" in a)
    seeds = [int(seed) for seed in named.get("seeds", "0,1,2").split(",")]
    backbone = BACKBONES[named.get("backbone", "conv")]
    with tempfile.TemporaryDirectory() as place:
        home = Path(named.get("output", place)).absolute()
        for target in [a for a in argv if "=" not in a] or TARGETS:
            if is_there(TARGETS[target][0]) and is_there("sentences"):
                report(target, [scores(target, seed, home, backbone) for seed in seeds])
            else:
                print(f"{target}: not found below {SETS / 'data'}")


if __name__ == "__main__":
    main(sys.argv[1:])
