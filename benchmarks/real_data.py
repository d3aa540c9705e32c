"""Train public data sets from scratch, and compare the test scores with simple references.

    python -m benchmarks.real_data            # all that are there
    python -m benchmarks.real_data pacs snips

The data files are benchmarks/sets/*.yaml; the sets themselves are expected in benchmarks/sets/data,
as files or as a link to a folder that has them, and are not part of the project.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.common import fit_apart

SETS = Path(__file__).parent / "sets"
CONV = (
    "encoder/text=conv",
    "encoder.text.dropout=0.5",
)
PICTURES = (
    "data.image.augment=flip_crop",
    "encoder.image.width=32",
    "encoder.image.stages=4",
    "trainer.max_epochs=20",
)


@dataclass(frozen=True)
class Case:
    """options: of the run; wanted: {task: reference}, of the task's first score.

    The references are TF-IDF with logistic regression for texts, and a CNN of three layers for
    pictures.
    """

    options: tuple[str, ...]
    wanted: Mapping[str, float]


CASES = {
    "clinc150": Case(
        (
            *CONV,
            "encoder.text.channels=384",
            "data.text.dropout=0.2",
            "data.text.vocab_size=4000",
            "ema_decay=0.99",
            "trainer.max_epochs=20",
        ),
        {"intent": 0.817, "domain": 0.817},
    ),
    "sentences": Case(
        (*CONV, "encoder.text.channels=192", "sampler=temperature", "trainer.max_epochs=12"),
        {"sst2": 0.817, "subj": 0.901, "trec": 0.890, "cr": 0.816, "mpqa": 0.818},
    ),
    "shopping": Case(
        (
            "encoder/text=gru",
            "encoder.text.dropout=0.3",
            "sampler.bucket=16",
            "trainer.max_epochs=10",
        ),
        {"category": 0.883, "sentiment": 0.929},
    ),
    "pacs": Case(PICTURES, {"object": 0.671, "domain": 0.915}),
    "clipart": Case(PICTURES, {"category": 0.64}),
    "spoken_digits": Case(("trainer.max_epochs=15",), {}),
    "snips": Case(("encoder/text=gru", "trainer.max_epochs=20"), {"slots": 0.85}),
}


def run(name: str) -> None:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        options = [f"data={SETS / name}.yaml", *CASES[name].options, "tracking=none"]
        scores = fit_apart(Path(folder, "run"), *options, shown=True)["test"]
    print(f"{name}: {time.perf_counter() - began:.0f} s")
    for task, found in scores.items():
        reference = CASES[name].wanted.get(task)
        beside = "" if reference is None else f"  reference {reference:.3f}"
        shown = "  ".join(f"{metric} {value:.3f}" for metric, value in found.items())
        print(f"  {task}  {shown}{beside}", flush=True)


def is_there(name: str) -> bool:
    datasets = yaml.safe_load((SETS / f"{name}.yaml").read_text(encoding="utf-8"))["datasets"]
    return all((SETS / spec["path"]).exists() for spec in datasets.values())


def main(argv: Sequence[str]) -> None:
    for name in argv or CASES:
        if is_there(name):
            run(name)
        else:
            print(f"{name}: not found below {SETS / 'data'}")


if __name__ == "__main__":
    main(sys.argv[1:])
