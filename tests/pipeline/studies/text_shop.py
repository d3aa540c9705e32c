"""Two small data sets of texts, and the command lines of studies of them."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from pipeline.command import CommandArguments
from pipeline.configuration.composition import compose
from pipeline.studies.prepare import make_plan, save_plan, study_request
from tests.pipeline.studies.plans import LAUNCHER

SMALL = [
    "data=shop.yaml",
    "dim=8",
    "optimizer.lr=0.03",
    "encoder.text.width=8",
    "encoder.text.pairs=64",
    "sampler.batch_size=16",
    "trainer.max_epochs=5",
    "gradients.every_n_steps=0",
    "tracking=none",
    "baseline=none",
    "preset=none",
]
WORDS = ("fine", "poor", "nice", "dear", "slow", "fast", "large", "small")


def write_shop(folder: Path, without: str | None = None) -> None:
    """Two data sets of texts, a task each; ``without``: a split where speed has no labels."""
    draw = random.Random(0)
    datasets: dict[str, Any] = {}
    for name, target in (("notes", "mood"), ("trips", "speed")):
        lines = [f"text,{target},part"]
        for row in range(96):
            label, part = "ab"[row % 2], ("train", "train", "valid", "test")[row // 2 % 4]
            text = " ".join(
                [
                    *draw.choices(WORDS, k=3),
                    "good" if (label == "a") != (draw.random() < 0.2) else "bad",
                ]
            )
            gone = target == "speed" and part == without
            lines.append(f"{text} {row},{'' if gone else label},{part}")
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
        source = {"source": "csv", "path": f"{name}.csv", "inputs": {"text": "text"}}
        datasets[name] = {**source, "split": {"column": "part"}}
    tasks = {
        target: {"dataset": name, "type": "classification", "target": target}
        for name, target in (("notes", "mood"), ("trips", "speed"))
    }
    text = {"vocab_size": 300, "max_length": 16}
    spec = {"datasets": datasets, "tasks": tasks, "text": text}
    (folder / "shop.yaml").write_text(yaml.safe_dump(spec))


def stand_in(run_dir: str) -> list[str]:
    return [*SMALL, "seeds=[0,1]", f"run_dir={run_dir}", f"launcher={LAUNCHER}"]


def plan_only(folder: Path, run_dir: str) -> None:
    """Leave a study's folder as one that was killed after it was planned."""
    overrides = stand_in(run_dir)
    want = study_request(compose("study", overrides), CommandArguments(overrides=overrides))
    plan = make_plan(want, Console(), time.perf_counter(), timed=False)
    save_plan(plan, want)
