"""Fine-tune the two pre-trained models that come as packages, and print the test scores.

    python -m benchmarks.pretrained                       # all cases with seeds 0, 1 and 2
    python -m benchmarks.pretrained texts output=runs/p seeds=0   # one case, runs kept

The data files are benchmarks/sets/*.yaml, as in benchmarks.real_data; ``reviews`` needs none. A run
that is in the output folder already isn't repeated, one that was interrupted goes on.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.common import is_finished, summary_of
from benchmarks.real_data import SETS, is_there

MINILM = (
    "encoder/text=minilm",
    "dim=384",
    "optimizer.lr=1e-3",
    "optimizer.lr_scale={encoders.text: 0.1}",
    "sampler.bucket=16",
    "trainer.precision=bf16-mixed",
)
CASES: Mapping[str, tuple[str, ...]] = {
    "reviews": (
        *MINILM,
        "~data.tasks.digit",
        "~data.tasks.optdigit",
        "~data.datasets.mnist",
        "~data.datasets.optdigits",
        "data.text.max_length=96",
        "sampler.batch_size=32",
        "trainer.max_epochs=3",
    ),
    "texts": (
        *MINILM,
        f"data={SETS / 'texts.yaml'}",
        "sampler.batch_size=64",
        "trainer.max_epochs=4",
    ),
    "pacs": (
        f"data={SETS / 'pacs.yaml'}",
        "encoder/image=efficientnet_lite0",
        "data.image.size=[160, 160]",
        "data.image.augment=flip",
        "dim=320",
        "optimizer.lr=1e-3",
        "optimizer.lr_scale={encoders.image: 0.3}",
        "sampler.batch_size=64",
        "trainer.max_epochs=4",
        "trainer.precision=bf16-mixed",
    ),
}


def run(name: str, seed: int, folder: Path) -> None:
    """Train, or go on with what was interrupted, unless that is done; print the scores."""
    if not is_finished(folder):
        start = [*CASES[name], f"seed={seed}", "tracking=none", "gradients.every_n_steps=0"]
        begun = (folder / "config.yaml").exists()
        arguments = [f"resume={folder}"] if begun else [*start, f"run_dir={folder}"]
        subprocess.run([sys.executable, "-m", "pipeline.fit", *arguments], check=True)
    summary = summary_of(folder)
    print(f"{name}, seed {seed}: {summary['seconds']:.0f} s")
    for task, found in summary["test"].items():
        print(f"  {task}  {'  '.join(f'{metric} {value:.3f}' for metric, value in found.items())}")
    if name == "texts":
        print(f"  intent in scope {in_scope(folder)}", flush=True)


def in_scope(folder: Path) -> str:
    with (SETS / "data" / "clinc150" / "clinc150.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    with tempfile.TemporaryDirectory() as place:
        given, answers = Path(place, "test.csv"), Path(place, "answers.csv")
        with given.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([["text"], *([row["text"]] for row in rows)])
        command = [sys.executable, "-m", "pipeline.predict", f"checkpoint={folder}"]
        command += [f"input={given}", f"output={answers}", "tasks=[intent]"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with answers.open(encoding="utf-8", newline="") as file:
            said = [answer["intent"] for answer in csv.DictReader(file)]
    right = [
        (row["intent"] == "oos", row["intent"] == a) for row, a in zip(rows, said, strict=True)
    ]
    known, unknown = ([hit for oos, hit in right if oos is kind] for kind in (False, True))
    accuracy, recall = (sum(hits) / len(hits) for hits in (known, unknown))
    return f"accuracy {accuracy:.3f}, out-of-scope recall {recall:.3f}"


def main(argv: Sequence[str]) -> None:
    named = dict(a.split("=", 1) for a in argv if "=" in a)
    seeds = [int(seed) for seed in named.get("seeds", "0,1,2").split(",")]
    with tempfile.TemporaryDirectory() as place:
        home = Path(named.get("output", place))
        for name in [a for a in argv if "=" not in a] or CASES:
            if name == "reviews" or is_there(name):
                for seed in seeds:
                    run(name, seed, home / f"{name}-{seed}")
            else:
                print(f"{name}: not found below {SETS / 'data'}")


if __name__ == "__main__":
    main(sys.argv[1:])
