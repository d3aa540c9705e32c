"""A study as it could be: four tasks, seven kinds of arms, three seeds, one trial that failed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, permutations
from math import exp, log, sin
from pathlib import Path

import numpy as np

from pipeline.studies.results import Arm, StudyResults, TrialResult

SINGLE_TASK = {"digit": 0.931, "optdigit": 0.962, "sentiment": 0.804, "subject": 0.573}
ROWS = {"digit": 3500, "optdigit": 1257, "sentiment": 700, "subject": 2900}
SHARES = (0.1, 0.3)
# what sharing adds, by what a task is trained with
GAINS = {
    ("digit", "optdigit"): 0.012, ("optdigit", "digit"): 0.016, ("sentiment", "subject"): 0.014,
    ("subject", "sentiment"): -0.009, ("digit", "sentiment"): -0.001,
    ("optdigit", "subject"): -0.004, ("subject", "digit"): -0.012, ("sentiment", "optdigit"): 0.001,
}  # fmt: skip
VARIANTS = {"upgrad": 0.004, "uncertainty": -0.002}
MEGABYTE = 1_000_000


def arms() -> Iterator[Arm]:
    tasks = tuple(SINGLE_TASK)
    yield from few()
    for name in VARIANTS:
        yield Arm(name, "variant", tasks, (f"balancer={name}",))
    for pair in combinations(tasks, 2):
        yield Arm(f"pair:{'+'.join(pair)}", "pair", pair, (f"tasks=[{','.join(pair)}]",))
    for name, weights in (("digit+0.5*subject", (1.0, 0.5)), ("0.5*digit+subject", (0.5, 1.0))):
        pair = ("digit", "subject")
        yield Arm(f"pair:{name}", "pair", pair, weights=tuple(zip(pair, weights, strict=True)))
    for source, target in permutations(("digit", "optdigit"), 2):
        yield Arm(f"transfer:{source}>{target}", "transfer", (target,), source=source)
    for arm in few():
        yield from (
            replace(
                arm,
                name=f"{arm.name}@{share:g}",
                labels=share,
                overrides=(*arm.overrides, f"label_fraction={share}"),
            )
            for share in SHARES
        )


def few() -> Iterator[Arm]:
    """The arms that are tried with fewer labels, too."""
    tasks = tuple(SINGLE_TASK)
    yield from (
        Arm(f"single_task:{task}", "single_task", (task,), (f"tasks=[{task}]",)) for task in tasks
    )
    yield Arm("multi_task", "multi_task", tasks)


def score(arm: Arm, task: str, rng: np.random.Generator) -> float:
    """The score of a run: what the task reaches alone, what its company adds, and chance."""
    others = [other for other in arm.tasks if other != task] + ([arm.source] if arm.source else [])
    gain = sum(GAINS.get((task, str(other)), 0.0) for other in others)
    gain += VARIANTS.get(arm.name, 0.0) + 0.02 * len(others) * (1 - arm.labels)
    fewer = 0.11 * log(1 / arm.labels)
    return float(SINGLE_TASK[task] + gain - fewer + rng.normal(0, 0.002))


def results(folder: Path | None = None, seeds: Sequence[int] = (0, 1, 2)) -> StudyResults:
    """A finished study; histories are written into a folder, if there is one."""
    found = StudyResults("quickstart", dict.fromkeys(SINGLE_TASK, "accuracy"), list(seeds), {}, [])
    found.arms = {arm.name: arm for arm in arms()}
    rng, noise = np.random.default_rng(7), np.random.default_rng(8)
    for arm in found.arms.values():
        for seed in seeds:
            trial = trial_of(arm, seed, rng)
            found.trials.append(trial)
            if folder is not None and trial.status == "finished":
                write_history(folder / trial.folder, arm, trial, noise)
    found.predictors = {
        "size_rows": {t: {s: float(ROWS[s]) for s in SINGLE_TASK if s != t} for t in SINGLE_TASK},
        "gradient_cosine": {
            t: {s: GAINS.get((t, s), 0.0) * 5 + rng.normal(0, 0.03) for s in SINGLE_TASK if s != t}
            for t in SINGLE_TASK
        },
        "log_me": {t: {s: rng.normal() for s in SINGLE_TASK if s != t} for t in SINGLE_TASK},
    }
    found.predictor_seconds = {"size_rows": 0.0, "gradient_cosine": 31.0, "log_me": 6.5}
    return found


def trial_of(arm: Arm, seed: int, rng: np.random.Generator) -> TrialResult:
    name = arm.name.replace(":", "-").replace(">", "-to-")
    folder = f"trials/{name}/{seed}"
    command = ["python", "-m", "pipeline.fit", "data=quickstart", *arm.overrides]
    trial = TrialResult(arm.name, seed, folder, [*command, f"seed={seed}", f"run_dir={folder}"])
    trial.seconds = 20 + 25 * len(arm.tasks) * (1.8 if arm.name == "upgrad" else 1) + rng.normal()
    if arm.name == "uncertainty" and seed == 2:
        trial.status, trial.message = "failed", "out of memory: <batch> of 512 rows took 3.1 GB"
        return trial
    trial.status = "finished"
    trial.test = {task: score(arm, task, rng) for task in arm.tasks}
    trial.valid = {task: value + 0.004 for task, value in trial.test.items()}
    trial.labels = {task: int(ROWS[task] * arm.labels) for task in arm.tasks}
    trial.rows_seen = dict.fromkeys(arm.tasks, 20000)
    trial.parameters = 180_000 + 140_000 * len(arm.tasks)
    trial.memory = (420 + 60 * len(arm.tasks) + (150 if arm.name == "upgrad" else 0)) * MEGABYTE
    trial.run_id = hashlib.md5(folder.encode(), usedforsecurity=False).hexdigest()
    return trial


def write_history(folder: Path, arm: Arm, trial: TrialResult, rng: np.random.Generator) -> None:
    """metrics.jsonl and operations.jsonl as a run writes them."""
    folder.mkdir(parents=True)
    lines = []
    for step in range(50, 1001, 50):
        metrics = {}
        if step % 100 == 0:
            for task, value in trial.valid.items():
                at = value * (1 - 0.6 * exp(-step / 180)) + rng.normal(0, 0.006)
                metrics[f"valid/{task}/accuracy"] = at
        if arm.kind in ("multi_task", "variant"):
            for place, (one, other) in enumerate(combinations(arm.tasks, 2)):
                cosine = GAINS.get((one, other), 0.0) * 20 + 0.1 * sin(step / 200 + place)
                metrics[f"gradient/cosine/{one}/{other}"] = cosine + rng.normal(0, 0.05)
        lines.append(json.dumps({"step": step, "time_ms": step, "metrics": metrics}))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tags = {"version.python": "3.11.7", "version.torch": "2.14.1", "version.pollinate": "0.1.0"}
    tags["mlflow.source.git.commit"] = "5bb7074c0ffee"
    data: dict[str, object] = {
        "op": "dataset",
        "name": "mnist",
        "digest": "93be48783b75",
        "source": "mnist_5k.csv.gz",
    }
    data["rows"] = {"train": 4000}
    text = "\n".join(json.dumps(line) for line in ({"op": "tags", "tags": tags}, data))
    (folder / "operations.jsonl").write_text(f"{text}\n", encoding="utf-8")
