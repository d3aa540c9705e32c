"""Lines over the optimizer steps: scores by arm, cosines of gradients by pair of tasks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.plots.figure_style import INK, label_axis
from pipeline.run_folder import RunFolder
from pipeline.studies.report.charts.panel import HELPED, HURT, Chart, Hover, Panel, colours_of
from pipeline.studies.report.report_data import ReportSubject, ScoreUnit, rounded
from pipeline.tracking.journals import read_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes


Series = dict[int, float]  # {optimizer step: value}
Histories = dict[str, dict[str, dict[int, Series]]]  # {key: {arm: {seed: series}}}


def histories(subject: ReportSubject, folder: Path) -> Histories:
    found: Histories = defaultdict(lambda: defaultdict(dict))
    scores = {f"valid/{task}/{metric}" for task, metric in subject.results.metrics.items()}
    for arm in subject.arms("multi_task", "variant", "single_task"):
        for trial in subject.results.finished(arm.name):
            for point in read_points(RunFolder(folder / trial.folder).metrics):
                drawn = point.key in scores or point.key.startswith("gradient/cosine/")
                if drawn and math.isfinite(point.value):
                    series = found[point.key][arm.name].setdefault(trial.seed, {})
                    series[point.step] = point.value
    return found


def mean(runs: Iterable[Series]) -> Series:
    own = list(runs)
    steps = set(own[0]).intersection(*own[1:]) if own else set()
    return {step: sum(series[step] for series in own) / len(own) for step in sorted(steps)}


Runs = Mapping[str, Mapping[int, Series]]  # {arm: {seed: series}}
MOST_ARMS, MOST_PAIRS = 6, 12
COSINE = "gradient/cosine/"
LEARNING = "Validation score over the optimizer steps: thin a seed, thick their mean."
COSINES = (
    "Cosine of two tasks' gradients in the multi-task run: below 0 they pull shared weights apart. "
    "It describes the training; it doesn't prove what helps."
)


def learning_chart(subject: ReportSubject, found: Histories) -> Chart | None:
    arms = [
        arm for arm in subject.arms("multi_task", "variant") if arm.name in subject.answers.scores
    ]
    colours = colours_of(arms[:MOST_ARMS])
    panels: list[Panel] = []
    key: dict[str, str] = {}
    for task, metric in subject.results.metrics.items():
        own = found.get(f"valid/{task}/{metric}", {})
        kinds = {name: subject.results.arms[name].kind for name in own}
        single_task = {n: runs for n, runs in own.items() if kinds[n] == "single_task"}
        runs = {**single_task, **{name: own[name] for name in colours if name in own}}
        if not runs:
            continue
        shown = colours_of(subject.results.arms[name] for name in single_task) | colours
        unit = subject.units[task]
        words = subject.axis_label(task)
        panels.append(Panel(task, partial(draw_scores, runs, shown, unit, words), 185))
        key |= {"single_task" if name in single_task else name: shown[name] for name in runs}
    return Chart("learning", "How the tasks learn", LEARNING, panels, key) if panels else None


def draw_scores(
    runs: Runs, colours: Mapping[str, str], unit: ScoreUnit, label: str, axis: Axes, hover: Hover
) -> None:
    for arm, seeds in runs.items():
        for series in seeds.values():
            values = [unit.factor * value for value in series.values()]
            axis.plot(list(series), values, color=colours[arm], linewidth=0.7, alpha=0.45)
        average = mean(seeds.values())
        values = [unit.factor * value for value in average.values()]
        mark = "." if len(values) < 3 else ""
        (line,) = axis.plot(list(average), values, marker=mark, color=colours[arm], linewidth=2.2)
        if values:
            hover.add(line, f"{arm}: {unit.amount(values[-1] / unit.factor)} at the end")
    axis.locator_params(axis="x", nbins=5)
    label_axis(axis, "optimizer steps", label)


def cosine_chart(subject: ReportSubject, found: Histories) -> Chart | None:
    pairs: dict[str, tuple[float, Mapping[int, Series]]] = {}
    for key, arms in found.items():
        for arm, runs in arms.items():
            if key.startswith(COSINE) and subject.results.arms[arm].kind == "multi_task":
                values = [value for series in runs.values() for value in series.values()]
                pairs[key.removeprefix(COSINE)] = sum(values) / max(1, len(values)), runs
    lowest = sorted(pairs, key=lambda pair: pairs[pair][0])[:MOST_PAIRS]
    most = max(
        (abs(v) for pair in lowest for s in pairs[pair][1].values() for v in s.values()),
        default=1.0,
    )
    panels = [
        Panel(
            f"{pair.replace('/', ' · ')}: mean {rounded(round(pairs[pair][0], 2), 2, sign=True)}",
            partial(draw_cosine, pairs[pair][1], min(1.0, most * 1.05)),
            130,
        )
        for pair in lowest
    ]
    rest = len(pairs) - len(lowest)
    caption = COSINES + (f" The {len(lowest)} lowest of {len(pairs)} pairs." if rest else "")
    return Chart("cosines", "Where tasks pull apart", caption, panels) if panels else None


def draw_cosine(runs: Mapping[int, Series], most: float, axis: Axes, hover: Hover) -> None:
    for seed, series in runs.items():
        (line,) = axis.plot(list(series), list(series.values()), color=HELPED, lw=0.7, alpha=0.45)
        hover.add(line, f"seed {seed}")
    average = mean(runs.values())
    steps, values = list(average), list(average.values())
    axis.plot(steps, values, color=HELPED, linewidth=2)
    axis.fill_between(steps, [min(0.0, value) for value in values], color=HURT, alpha=0.35, lw=0)
    axis.axhline(0, color=INK, linewidth=0.8)
    axis.set_ylim(-most, most)
    axis.locator_params(axis="both", nbins=5)
    label_axis(axis, "optimizer steps")
