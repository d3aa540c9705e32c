"""Every balancer on real data at a tuned learning rate, against single tasks and fixed weights.

    python -m benchmarks.balancers_on_data quickstart results.jsonl [METHOD ...]
    python -m benchmarks.balancers_on_data cifar100 results.jsonl [METHOD ...]
    python -m benchmarks.balancers_on_data table results.jsonl        # as Markdown

Budget: each method trains with three learning rates and seed 0; the one with the best mean
validation score trains with two more seeds. Single-task training does this for each task, with as
many rows a step, and as many steps, as the task has in multi-task training. Fixed weights get, at
the best learning rate of equal weights, one more run for each task with its weight tripled; the
best weights get the two more seeds. Runs that are in the file are not repeated. Scores are test
scores of the best validated weights; intervals are 95%, by Student's t over seeds.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from pipeline.configuration.groups import SHIPPED, options

SETS = Path(__file__).parent / "sets"
SEEDS = (0, 1, 2)
RATES = (0.5, 1.0, 2.0)  # factors on the default learning rate
TRIPLED = 3.0


@dataclass(frozen=True)
class Study:
    """A set of tasks.

    arguments: of every run.
    tasks: {task: data set}.
    rows: {task: rows in a step of multi-task training}, for a task alone: it gets as many, no more.
    steps: of an epoch.
    lr: of the optimizer by default.
    """

    arguments: tuple[str, ...]
    tasks: Mapping[str, str]
    rows: Mapping[str, int]
    steps: int
    lr: float = 4e-3


STUDIES = {
    "quickstart": Study(
        ("trainer.max_epochs=5",),
        {"digit": "mnist", "optdigit": "optdigits", "sentiment": "reviews", "subject": "courses"},
        {"digit": 43, "optdigit": 37, "sentiment": 44, "subject": 36},
        59,
    ),
    "cifar100": Study(
        (
            f"data={SETS / 'cifar100.yaml'}",
            "data.image.augment=null",
            *(f"data.image.{move}=0" for move in ("shift", "rotate", "scale")),
            "trainer.max_epochs=15",
            "encoder.image.stages=4",
        ),
        {"fine": "pictures", "coarse": "pictures"},
        {"fine": 64, "coarse": 64},
        80,
    ),
}


@dataclass(frozen=True)
class Trial:
    """One run: a method with a learning rate and a seed."""

    study: str
    method: str
    lr: float
    seed: int

    def arguments(self, folder: Path) -> list[str]:
        study = STUDIES[self.study]
        chosen = [f"balancer={self.method}"]
        rows = sum({study.tasks[t]: n for t, n in study.rows.items()}.values())
        if self.method.startswith("single "):
            task = self.method.removeprefix("single ")
            others = [other for other in study.tasks if other != task]
            unused = {study.tasks[other] for other in others} - {study.tasks[task]}
            rows = study.rows[task]
            chosen = [
                *(f"~data.tasks.{o}" for o in others),
                *(f"~data.datasets.{d}" for d in unused),
            ]
        if self.method.startswith("fixed "):
            task = self.method.removeprefix("fixed ")
            chosen = ["balancer=fixed", f"balancer.task_weights.{task}={TRIPLED}"]
        return [
            *study.arguments,
            *chosen,
            f"sampler.batch_size={rows}",
            f"sampler.steps_per_epoch={study.steps}",
            f"optimizer.lr={self.lr}",
            f"seed={self.seed}",
            "tracking=none",
            f"run_dir={folder / 'run'}",
        ]


class Results:
    """A file of finished trials, one line each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        found = [json.loads(line) for line in lines]
        self.known = {Trial(**line["trial"]): line for line in found}

    def get(self, trial: Trial) -> dict[str, Any]:
        """Return a trial's scores; run it if need be."""
        if trial not in self.known:
            self.known[trial] = run(trial)
            with self.path.open("a") as file:
                file.write(json.dumps(self.known[trial]) + "\n")
        return self.known[trial]


def run(trial: Trial) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = os.fork()
        if process == 0:
            _train(trial, folder)
        if os.waitpid(process, 0)[1]:
            raise RuntimeError(f"{trial}: {(folder / 'log').read_text()[-2000:]}")
        summary = json.loads((folder / "run" / "summary.json").read_text())
    first, valid = (
        {task: scores["accuracy"] for task, scores in summary[split].items()}
        for split in ("test", "valid")
    )
    seconds = round(summary["seconds"], 1)
    sys.stdout.write(f"{trial} {first} {seconds} s\n")
    sys.stdout.flush()
    return {"trial": vars(trial), "test": first, "valid": valid, "seconds": seconds}


def _train(trial: Trial, folder: Path) -> None:
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    import pipeline.training_run
    from pipeline.fit import main as fit

    pipeline.training_run.draw_plots = lambda *_: []
    code = fit(trial.arguments(folder))
    sys.stdout.flush()
    os._exit(code)


def mean(scores: Mapping[str, float]) -> float:
    return statistics.mean(scores.values())


def tuned(results: Results, study: str, method: str) -> list[dict[str, Any]]:
    """Return a method's runs with all seeds at its best learning rate."""
    rates = [STUDIES[study].lr * factor for factor in RATES]
    first = {lr: results.get(Trial(study, method, lr, SEEDS[0])) for lr in rates}
    best = max(first, key=lambda lr: mean(first[lr]["valid"]))
    return [results.get(Trial(study, method, best, seed)) for seed in SEEDS]


def tuned_weights(results: Results, study: str) -> list[dict[str, Any]]:
    """Return the runs of the best fixed weights with all seeds."""
    lr = tuned(results, study, "equal")[0]["trial"]["lr"]
    names = ["equal", *(f"fixed {task}" for task in STUDIES[study].tasks)]
    first = {name: results.get(Trial(study, name, lr, SEEDS[0])) for name in names}
    best = max(first, key=lambda name: mean(first[name]["valid"]))
    return [results.get(Trial(study, best, lr, seed)) for seed in SEEDS]


def methods() -> list[str]:
    return [name for name in options("balancer", [SHIPPED]) if name != "fixed"]


def train(study: str, results: Results, names: Sequence[str]) -> None:
    import lightning.pytorch
    import torch

    import pipeline.training_run  # noqa: F401  # imported here, once for all forks

    assert lightning.pytorch
    torch.set_num_threads(1)
    for task in STUDIES[study].tasks:
        tuned(results, study, f"single {task}")
    tuned_weights(results, study)
    for name in names or methods():
        tuned(results, study, name)


def interval(values: Sequence[float]) -> str:
    """Return mean and half the width of the 95% interval, in points."""
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{100 * statistics.mean(values):.1f} ± {100 * half:.1f}"


def table(results: Results, study: str) -> list[str]:
    """Return the lines of a Markdown table; methods by their mean test score."""
    tasks = STUDIES[study].tasks
    done = {trial.method for trial in results.known if trial.study == study and trial.seed}
    rows: list[tuple[float, str]] = []
    single = {t: tuned(results, study, f"single {t}") for t in tasks}
    alone = {t: [r["test"][t] for r in runs] for t, runs in single.items()}
    means = [statistics.mean(scores) for scores in zip(*alone.values(), strict=True)]
    rates = " ".join(f"{runs[0]['trial']['lr']:g}" for runs in single.values())
    rows.append(line("**each task alone**", [*alone.values(), means], "", rates))
    found = {name: tuned(results, study, name) for name in methods() if name in done}
    found["**fixed, tuned**"] = tuned_weights(results, study)
    for name, runs in found.items():
        scores = [[r["test"][t] for r in runs] for t in tasks]
        change = statistics.mean(
            statistics.mean(s) / statistics.mean(alone[t]) - 1
            for t, s in zip(tasks, scores, strict=True)
        )
        columns = [*scores, [mean(r["test"]) for r in runs]]
        rate = f"{runs[0]['trial']['lr']:g}"
        rows.append(line(name, columns, f"{100 * change:+.1f}%", rate))
    head = f"| {' | '.join(['method', *tasks, 'mean', 'change', 'learning rate'])} |"
    return [
        head,
        "|" + "---|" * (len(tasks) + 4),
        *(text for _, text in sorted(rows, reverse=True)),
    ]


def line(
    name: str, columns: Sequence[Sequence[float]], change: str, rate: str
) -> tuple[float, str]:
    """Return (mean score, a row)."""
    cells = [name, *map(interval, columns), change, rate]
    return statistics.mean(columns[-1]), f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str]) -> None:
    what, results = arguments[0], Results(Path(arguments[1]))
    if what != "table":
        train(what, results, arguments[2:])
        return
    for study in STUDIES:
        if any(trial.study == study for trial in results.known):
            sys.stdout.write(f"{study}\n\n" + "\n".join(table(results, study)) + "\n\n")


if __name__ == "__main__":
    main(sys.argv[1:])
