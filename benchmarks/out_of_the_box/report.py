"""The page that tells what was measured, from whatever pieces have ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.common import deviation
from benchmarks.out_of_the_box.pieces import SEEN
from benchmarks.out_of_the_box.sets import SETS, reads_any
from pipeline.studies.analysis.comparisons import compare
from pipeline.studies.analysis.estimates import Change, IntervalEstimate, mean_interval
from pipeline.studies.analysis.score_table import Seeds, score_table
from pipeline.studies.results import Arm, ArmKind, StudyResults, TrialResult
from pipeline.text_format import count, duration, listed

SLACK = 0.005  # below the better simple model, that still counts as reaching it
PRESETS = ("none", "fast", "good")  # their order in tables; others follow
LEVEL = 0.95  # of the intervals


@dataclass
class Figures:
    """The figures of all finished pieces.

    runs, alone: {(preset, set, task): {seed: what the run says of the task}}, of all tasks of a
        set together, and of the task alone.
    metrics: {(set, task): the metric that is its score}.
    cnn: {(set, task): {seed: test accuracy}}.
    seconds: {(preset, set): of each run that was never stopped}.
    """

    runs: dict[tuple[str, str, str], dict[int, dict[str, Any]]]
    alone: dict[tuple[str, str, str], dict[int, dict[str, Any]]]
    metrics: dict[tuple[str, str], str]
    cnn: dict[tuple[str, str], Seeds]
    seconds: dict[tuple[str, str], list[float]]

    @property
    def presets(self) -> list[str]:
        found = {preset for preset, _, _ in [*self.runs, *self.alone]}
        return [one for one in PRESETS if one in found] + sorted(found - set(PRESETS))

    def tests(self, preset: str, name: str, task: str) -> Seeds:
        """Return {seed: test score} of runs of all tasks together."""
        return part(self.runs.get((preset, name, task), {}), "test")

    def tests_alone(self, preset: str, name: str, task: str) -> Seeds:
        """Return {seed: test score} of runs of the task alone."""
        return part(self.alone.get((preset, name, task), {}), "test")

    def said(self, name: str, task: str, key: str) -> Seeds:
        """Return {seed: what runs say of a task besides their own score}: the most of any preset.

        Linear models read what the network reads, which a preset may choose.
        """
        found: Seeds = {}
        for preset in self.presets:
            for seed, value in part(self.runs.get((preset, name, task), {}), key).items():
                found[seed] = max(value, found.get(seed, value))
        return found

    def simple(self, name: str, task: str) -> tuple[str, Seeds] | None:
        """Return the simple model of the better mean, and its scores; None before all are known."""
        known = {"linear": self.said(name, task, "linear")}
        if reads_any(SETS[name], task, SEEN):
            known["CNN"] = self.cnn.get((name, task), {})
            if not known["CNN"]:
                return None
        known = {model: seeds for model, seeds in known.items() if seeds}
        if not known:
            return None
        best = max(known, key=lambda model: fmean(known[model].values()))
        return best, known[best]


def part(runs: Mapping[int, Mapping[str, Any]], key: str) -> Seeds:
    return {seed: own[key] for seed, own in sorted(runs.items()) if own[key] is not None}


def figures(results: Iterable[Mapping[str, Any]]) -> Figures:
    """Return the figures of the pieces that are finished."""
    found = Figures({}, {}, {}, {}, {})
    for one in results:
        if one["status"] != "finished" or one["set"] not in SETS:
            continue
        name, preset, seed = one["set"], one["preset"], one["seed"]
        if preset is None:
            accuracy = one["scores"][one["task"]]["test"]
            found.cnn.setdefault((name, one["task"]), {})[seed] = accuracy
            continue
        runs = found.runs if one["task"] is None else found.alone
        for task, own in one["scores"].items():
            runs.setdefault((preset, name, task), {})[seed] = own
            found.metrics[name, task] = own["metric"]
        if one["task"] is None and not one["resumed"]:
            found.seconds.setdefault((preset, name), []).append(one["summary"]["seconds"])
    return found


def page_text(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the page, from the JSON of pieces."""
    known = figures(results)
    parts = [
        INTRODUCTION.read_text(encoding="utf-8").strip(),
        *scores_part(known),
        *verdicts_part(known),
        *together_part(known),
    ]
    return "\n\n".join([*parts, *measured_part(results), *failed_part(results)]) + "\n"


INTRODUCTION = Path(__file__).with_name("introduction.md")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |".replace("  ", " ") for cells in lines)


def number(value: float) -> str:
    """Return a score as ``.812``; 1 as ``1.000``."""
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


def signed(value: float) -> str:
    return ("-" if round(value, 3) < 0 else "+") + number(abs(value))


def spread(seeds: Seeds) -> str:
    """Return a mean and its standard deviation, of one seed the value; nothing of none."""
    values = list(seeds.values())
    if not values:
        return ""
    behind = f" ± {number(deviation(values))}" if len(values) > 1 else ""
    return f"{number(fmean(values))}{behind}"


def mean_of(seeds: Seeds) -> str:
    return number(fmean(seeds.values())) if seeds else ""


def all_tasks() -> Iterator[tuple[str, str, bool]]:
    """Yield (set, task, whether it is the set's first)."""
    for name, spec in SETS.items():
        for place, task in enumerate(spec["tasks"]):
            yield name, task, place == 0


def scores_part(known: Figures) -> Iterator[str]:
    presets = known.presets
    took = [f"{preset}, time" for preset in presets]
    head = ["set", "task", "score", "rows", "majority", "linear", "CNN", *presets, *took]
    rows = []
    for name, task, is_first in all_tasks():
        labels = known.said(name, task, "rows")
        cells = [known.metrics.get((name, task), ""), f"{max(labels.values()):,}" if labels else ""]
        cells += [mean_of(known.said(name, task, key)) for key in ("majority", "linear")]
        cells.append(spread(known.cnn.get((name, task), {})))
        cells += [spread(known.tests(preset, name, task)) for preset in presets]
        seconds = [known.seconds.get((preset, name), []) for preset in presets]
        cells += [duration(fmean(own)) if own and is_first else "" for own in seconds]
        rows.append([name if is_first else "", task, *cells])
    yield "## Scores"
    yield (
        "*rows* are training rows with a label. The time is that of one run of all tasks of the "
        "set, from command to table, the linear models included, on one thread and beside other "
        "work: alone on the machine it is shorter."
    )
    yield table(head, rows)


def verdicts_part(known: Figures) -> Iterator[str]:
    """Yield each preset against the better simple model, once there are runs."""
    presets = known.presets
    if not presets:
        return
    rows = []
    reached: dict[str, list[bool]] = {preset: [] for preset in presets}
    for name, task, is_first in all_tasks():
        simple = known.simple(name, task)
        model, base = simple or ("", {})
        cells = [f"{model} {mean_of(base)}".strip()]
        for preset in presets:
            tests = known.tests(preset, name, task)
            if not tests or not base:
                cells += ["", ""]
                continue
            is_reached = fmean(tests.values()) >= fmean(base.values()) - SLACK
            reached[preset].append(is_reached)
            cells += [difference(tests, base), "reached" if is_reached else "below"]
        rows.append([name if is_first else "", task, *cells])
    heads = [head for preset in presets for head in (f"{preset} less it", "")]
    yield "## Against the better simple model"
    yield (
        "The better one of *linear* and *CNN* by its mean, and what a preset scores less what it "
        "scores: the mean of the differences seed by seed, with its 95 % interval over seeds. "
        f"*reached*: the preset's mean is at most {number(SLACK)} below."
    )
    for preset, found in reached.items():
        if found:
            yield f"`{preset}` reaches it in {sum(found)} of {count(len(found), 'task')}."
    yield table(["set", "task", "better", *heads], rows)


def difference(own: Seeds, base: Seeds) -> str:
    """Return the mean difference, paired by seed, with its interval; nothing without a pair."""
    pairs = [own[seed] - base[seed] for seed in own if seed in base]
    return interval(mean_interval(pairs, LEVEL)) if pairs else ""


def interval(found: IntervalEstimate, percent: bool = False) -> str:
    """Return a difference with its interval where it has one."""
    show = (lambda value: f"{value:+.1%}") if percent else signed
    if found.low is None or found.high is None:
        return show(found.mean)
    return f"{show(found.mean)} [{show(found.low)}, {show(found.high)}]"


def together_part(known: Figures) -> Iterator[str]:
    """Yield all tasks of a set together against each alone, of each preset that has both."""
    parts = [(preset, list(comparison_rows(known, preset))) for preset in known.presets]
    parts = [(preset, rows) for preset, rows in parts if rows]
    if not parts:
        return
    yield "## Together against apart"
    yield (
        "One model for all tasks of a set against one for each task, with the same preset, rows "
        "and seeds. The difference is paired by seed; its interval and p are those of a study's "
        "report, p after Holm's correction over all rows of the table. *all*: the mean over tasks "
        "of the relative changes."
    )
    for preset, rows in parts:
        yield f"### {preset}"
        yield table(["set", "task", "together", "apart", "difference", "p", "verdict"], rows)


def comparison_rows(known: Figures, preset: str) -> Iterator[list[str]]:
    """Yield a row for each task with both, and one for each set with several such tasks."""
    results = as_study(known, preset)
    found = compare(results, score_table(results), LEVEL).comparisons
    for name in [one for one in SETS if one in found]:
        for place, (key, change) in enumerate(found[name].changes.items()):
            _, task = key.split()
            both = known.tests(preset, name, task), known.tests_alone(preset, name, task)
            yield ["" if place else name, task, *map(spread, both), *change_cells(change)]
        mean = found[name].delta_m
        if mean is not None and len(found[name].changes) > 1:
            yield ["", "all", "", "", *change_cells(mean, percent=True)]


def as_study(known: Figures, preset: str) -> StudyResults:
    """Return a preset's runs as a study's: an arm for each set, and one for each task alone."""
    arms: dict[str, Arm] = {}
    trials: list[TrialResult] = []

    def add(arm: str, kind: ArmKind, scores: Mapping[str, Seeds]) -> None:
        arms[arm] = Arm(arm, kind, tuple(scores))
        for seed in sorted({seed for seeds in scores.values() for seed in seeds}):
            test = {task: seeds[seed] for task, seeds in scores.items() if seed in seeds}
            trials.append(TrialResult(arm, seed, "", [], "finished", test))

    for name, spec in SETS.items():
        single = {f"{name} {t}": known.tests_alone(preset, name, t) for t in spec["tasks"]}
        joint = {f"{name} {t}": known.tests(preset, name, t) for t in spec["tasks"]}
        both = [task for task in single if single[task] and joint[task]]
        if both:
            add(name, "multi_task", {task: joint[task] for task in both})
        for task in both:
            add(f"{task} alone", "single_task", {task: single[task]})
    return StudyResults(preset, {}, sorted({t.seed for t in trials}), arms, trials)


def change_cells(change: Change, percent: bool = False) -> list[str]:
    p = "" if change.adjusted is None else number(change.adjusted)
    return [interval(change.difference, percent), p, change.verdict]


def measured_part(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield when and on what it was measured."""
    done = [one for one in results if one["status"] == "finished"]
    yield "## How it was measured"
    if not done:
        yield "Nothing has been measured yet."
        return
    days = sorted({one["date"] for one in done})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    seeds = [str(seed) for seed in sorted({one["seed"] for one in done})]
    commits = dict.fromkeys(one["machine"]["commit"] for one in done)
    lines = [
        f"{when}, {count(len(done), 'finished run')}, {named(seeds, 'seed')}",
        *dict.fromkeys(machine_line(one["machine"]) for one in done),
        named([commit for commit in commits if commit], "commit"),
    ]
    yield "\n".join(f"- {line}" for line in lines if line)


def named(names: Sequence[str], noun: str) -> str:
    """Return ``seed 0`` or ``seeds 0 and 1``; nothing of none."""
    return f"{noun}{'s' if len(names) > 1 else ''} {listed(names)}" if names else ""


def machine_line(machine: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {own}" for name, own in machine["versions"].items())
    threads = machine["threads"]
    own = f", {count(int(threads), 'thread')} a run" if threads else ""
    memory = f"{machine['memory_gb']} GB of memory"
    return f"{count(machine['cores'], 'core')}{own}, {memory}; {versions}"


def failed_part(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    failed = [one for one in results if one["status"] == "failed"]
    if not failed:
        return
    yield "## Runs that failed"
    yield "\n".join(f"- `{one['command']}`: {one['reason']}" for one in failed)
