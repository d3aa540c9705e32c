"""A study as it could be: four tasks, seven kinds of arms, three seeds, one trial that failed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import combinations, permutations
from math import exp, log, sin
from pathlib import Path

import numpy as np
from scipy import stats

from pipeline.ranking.agreement import agreement
from pipeline.studying.answers import (
    Answers,
    Change,
    Comparison,
    Estimate,
    Grouping,
    Point,
    Saved,
    Transfer,
    Verdict,
)
from pipeline.studying.results import Arm, Results, Trial

ALONE = {"digit": 0.931, "optdigit": 0.962, "sentiment": 0.804, "subject": 0.573}
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
    tasks = tuple(ALONE)
    for task in tasks:
        yield Arm(f"alone:{task}", "alone", (task,), (f"tasks=[{task}]",))
    yield Arm("joint", "joint", tasks)
    for name in VARIANTS:
        yield Arm(name, "variant", tasks, (f"balancer={name}",))
    for pair in combinations(tasks, 2):
        yield Arm(f"pair:{'+'.join(pair)}", "pair", pair, (f"tasks=[{','.join(pair)}]",))
    for source, target in permutations(("digit", "optdigit"), 2):
        yield Arm(f"transfer:{source}>{target}", "transfer", (target,), source=source)
    for share in SHARES:
        for name, own in [*((f"alone:{task}", (task,)) for task in tasks), ("joint", tasks)]:
            kind = "joint" if name == "joint" else "alone"
            yield Arm(f"{name}@{share:g}", kind, own, (f"labels={share}",), labels=share)


def score(arm: Arm, task: str, rng: np.random.Generator) -> float:
    """The score of a run: what the task reaches alone, what its company adds, and chance."""
    others = [other for other in arm.tasks if other != task] + ([arm.source] if arm.source else [])
    gain = sum(GAINS.get((task, str(other)), 0.0) for other in others)
    gain += VARIANTS.get(arm.name, 0.0) + 0.02 * len(others) * (1 - arm.labels)
    fewer = 0.11 * log(1 / arm.labels)
    return float(ALONE[task] + gain - fewer + rng.normal(0, 0.0012))


def results(folder: Path | None = None, seeds: Sequence[int] = (0, 1, 2)) -> Results:
    """A finished study; histories are written into a folder, if there is one."""
    found = Results("quickstart", dict.fromkeys(ALONE, "accuracy"), list(seeds), {}, [])
    found.arms = {arm.name: arm for arm in arms()}
    rng = np.random.default_rng(7)
    for arm in found.arms.values():
        for seed in seeds:
            trial = trial_of(arm, seed, rng)
            found.trials.append(trial)
            if folder is not None and trial.status == "finished":
                write_history(folder / trial.folder, arm, trial, rng)
    found.predictors = {
        "size_rows": {t: {s: float(ROWS[s]) for s in ALONE if s != t} for t in ALONE},
        "gradient_cosine": {
            t: {s: GAINS.get((t, s), 0.0) * 5 + rng.normal(0, 0.03) for s in ALONE if s != t}
            for t in ALONE
        },
        "log_me": {t: {s: rng.normal() for s in ALONE if s != t} for t in ALONE},
    }
    found.predictor_seconds = {"size_rows": 0.0, "gradient_cosine": 31.0, "log_me": 6.5}
    return found


def trial_of(arm: Arm, seed: int, rng: np.random.Generator) -> Trial:
    name = arm.name.replace(":", "-").replace(">", "-to-")
    folder = f"trials/{name}/{seed}"
    command = ["python", "-m", "pipeline.fit", "data=quickstart", *arm.overrides]
    trial = Trial(arm.name, seed, folder, [*command, f"seed={seed}", f"run_dir={folder}"])
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


def write_history(folder: Path, arm: Arm, trial: Trial, rng: np.random.Generator) -> None:
    """metrics.jsonl and operations.jsonl as a run writes them."""
    folder.mkdir(parents=True)
    lines = []
    for step in range(50, 1001, 50):
        metrics = {}
        if step % 100 == 0:
            for task, value in trial.valid.items():
                at = value * (1 - 0.6 * exp(-step / 180)) + rng.normal(0, 0.006)
                metrics[f"valid/{task}/accuracy"] = at
        if arm.kind in ("joint", "variant"):
            for place, (one, other) in enumerate(combinations(arm.tasks, 2)):
                cosine = GAINS.get((one, other), 0.0) * 20 + 0.1 * sin(step / 200 + place)
                metrics[f"gradient/cosine/{one}/{other}"] = cosine + rng.normal(0, 0.05)
        lines.append(json.dumps({"step": step, "time_ms": step, "metrics": metrics}))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tags = {"version.python": "3.11.7", "version.torch": "2.14.1", "version.pollinate": "0.1.0"}
    tags["mlflow.source.git.commit"] = "5bb7074c0ffee"
    data = {"op": "dataset", "name": "mnist", "digest": "93be48783b75", "source": "mnist_5k.csv.gz"}
    text = "\n".join(json.dumps(line) for line in ({"op": "tags", "tags": tags}, data))
    (folder / "operations.jsonl").write_text(f"{text}\n", encoding="utf-8")


def answers(study: Results) -> Answers:
    """Answers of the right form; the statistics are those of a quick look."""
    scores = {
        name: {t: estimate(list(study.scores(name, t).values())) for t in arm.tasks}
        for name, arm in study.arms.items()
        if list(study.finished(name))
    }
    found = Answers(scores, {})
    for name, arm in study.arms.items():
        if arm.kind == "alone" or arm.labels < 1 or name not in scores:
            continue
        changes = {task: change(study, name, task) for task in arm.tasks}
        found.comparisons[name] = Comparison(name, changes, mean_change(list(changes.values())))
    found.transfers = [transfer for arm in study.arms.values() for transfer in moved(found, arm)]
    for name in [*(f"alone:{task}" for task in ALONE), "joint"]:
        for task in study.arms[name].tasks:
            curve = [
                (int(ROWS[task] * share), scores[f"{name}@{share:g}" if share < 1 else name][task])
                for share in (*SHARES, 1.0)
            ]
            found.curves.setdefault(name, {})[task] = curve
    single = len(study.seeds) == 1
    found.saved = [
        Saved("digit", "joint", 0.931, Estimate(3060, None, None, 1), 3500)
        if single
        else Saved("digit", "joint", 0.931, Estimate(3060, 2860, 3260, 3), 3500),
        Saved("subject", "joint", 0.573, None, 2900),
    ]
    found.groupings = groupings(found, study)
    found.agreement = {name: ranked(found, values) for name, values in study.predictors.items()}
    found.points = points(found, study)
    found.least = dict.fromkeys(ALONE, None if single else 0.0085)
    return found


def estimate(values: Sequence[float]) -> Estimate:
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, None, None, len(values))
    half = float(np.std(values, ddof=1) / len(values) ** 0.5 * stats.t.ppf(0.975, len(values) - 1))
    return Estimate(mean, mean - half, mean + half, len(values))


def change(study: Results, arm: str, task: str) -> Change:
    own, alone = study.scores(arm, task), study.scores(f"alone:{task}", task)
    seeds = sorted(own.keys() & alone.keys())
    differences = [own[seed] - alone[seed] for seed in seeds]
    relative = [d / alone[seed] for d, seed in zip(differences, seeds, strict=True)]
    return tested(estimate(differences), estimate(relative), differences)


def tested(difference: Estimate, relative: Estimate, values: Sequence[float]) -> Change:
    if len(values) < 2:
        return Change(difference, relative, None, None, "unclear")
    p = float(stats.ttest_1samp(values, 0.0).pvalue)
    adjusted = min(1.0, 2 * p)
    verdict: Verdict = "unclear" if adjusted > 0.05 else "helped" if difference.mean > 0 else "hurt"
    return Change(difference, relative, p, adjusted, verdict)


def mean_change(changes: Sequence[Change]) -> Change:
    spread = 0.5 * float(np.mean([(c.relative.high or 0) - (c.relative.low or 0) for c in changes]))
    mean, seeds = float(np.mean([c.relative.mean for c in changes])), changes[0].relative.seeds
    single = changes[0].p is None
    known = Estimate(
        mean, None if single else mean - spread, None if single else mean + spread, seeds
    )
    verdict: Verdict = (
        "unclear" if single or abs(mean) < spread else "helped" if mean > 0 else "hurt"
    )
    p = None if single else 0.01 if verdict != "unclear" else 0.4
    return Change(known, known, p, p, verdict)


def moved(found: Answers, arm: Arm) -> Iterator[Transfer]:
    pairs = list(permutations(arm.tasks, 2)) if arm.kind == "pair" else []
    pairs += [(arm.source, arm.tasks[0])] if arm.source is not None else []
    for source, target in pairs:
        gain = found.comparisons[arm.name].changes[target]
        weak = "weak" if gain.difference.mean > -0.008 else "strong"
        negative = {"hurt": weak, "helped": "none", "unclear": "unclear"}[gain.verdict]
        yield Transfer(source, target, arm.name, gain, negative)  # type: ignore[arg-type]


def groupings(found: Answers, study: Results) -> list[Grouping]:
    alone = {task: f"alone:{task}" for task in ALONE}
    seconds = {arm: next(study.finished(arm)).seconds for arm in found.scores}
    split = {"digit": "pair:digit+optdigit", "optdigit": "pair:digit+optdigit"}
    split |= {"sentiment": "pair:sentiment+subject", "subject": "alone:subject"}
    named: list[tuple[list[tuple[str, ...]], dict[str, str]]] = [
        ([tuple(ALONE)], dict.fromkeys(ALONE, "joint")),
        (
            [("digit", "optdigit"), ("sentiment", "subject")],
            {**split, "subject": split["sentiment"]},
        ),
        (
            [("digit", "optdigit"), ("sentiment",), ("subject",)],
            {**alone, **dict(list(split.items())[:2])},
        ),
        ([(task,) for task in ALONE], alone),
    ]
    return [
        Grouping(
            len(groups),
            groups,
            served,
            float(np.mean([relative(found, task, arm) for task, arm in served.items()])),
            sum(seconds[arm] for arm in set(served.values())),
            320_000 * len(groups),
        )
        for groups, served in named
    ]


def relative(found: Answers, task: str, arm: str) -> float:
    known: dict[str, Change] = found.comparisons[arm].changes if arm in found.comparisons else {}
    return known[task].relative.mean if task in known else 0.0


def ranked(found: Answers, values: dict[str, dict[str, float]]):  # type: ignore[no-untyped-def]
    gains = {(t.target, t.source): t.gain.difference.mean for t in found.transfers}
    columns = [
        (
            np.array([values[task].get(source, np.nan) for source in ALONE]),
            np.array([gains.get((task, source), np.nan) for source in ALONE]),
        )
        for task in ALONE
    ]
    return agreement(columns)


def points(found: Answers, study: Results) -> list[Point]:
    drawn = []
    for name in ("joint", *VARIANTS):
        trial = next(study.finished(name))
        mean = found.comparisons[name].delta_m.relative.mean
        drawn.append([name, mean, trial.seconds, trial.parameters, trial.memory])
    drawn.append(["alone", 0.0, 180.0, 1_280_000, 480 * MEGABYTE])
    return [
        Point(
            name, mean, seconds, parameters, memory,
            {
                cost: not any(o[1] > mean and o[at] <= own for o in drawn)
                for at, (cost, own) in enumerate(
                    (("seconds", seconds), ("parameters", parameters), ("memory", memory)), start=2
                )
            },
        )
        for name, mean, seconds, parameters, memory in drawn
    ]  # fmt: skip
