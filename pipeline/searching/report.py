"""What a search leaves for people and programs: the verdict, a page, tables, a plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from lightning_modules.checkpoints import BEST, checkpoint_fingerprint
from pipeline.pages import render
from pipeline.plots.figure_style import label_axis
from pipeline.run_folder import RunFolder
from pipeline.searching.console import leaders
from pipeline.searching.context import SearchContext
from pipeline.searching.library import JOINT, LINEAR, alone
from pipeline.searching.outcome import RESULTS, STUDENT, Candidate, Outcome
from pipeline.searching.plan import SearchPlan, Trial
from pipeline.searching.trials import Progress
from pipeline.side_work import costs_only_itself
from pipeline.studies.analysis.pareto import pareto_front
from pipeline.studies.mlflow_run import StudyTracker
from pipeline.studies.overrides import combined
from pipeline.studies.report.charts.panel import COLOURS, HELPED, UNCLEAR, Chart, Hover, Panel, svg
from pipeline.studies.report.charts.pareto_front import HEIGHT, Units, cost_axis, name_marks
from pipeline.studies.report.report_tables import ReportTable
from pipeline.studies.trial_files import read_json
from pipeline.terminal import say
from pipeline.text_format import cell, code, count, duration, format_scaled, listed
from pipeline.tracking.redact import redact_arguments
from pollinate.files import csv_text, json_text, write_text
from pollinate.overrides import override
from pollinate.program import shell_command

if TYPE_CHECKING:
    from matplotlib.axes import Axes


PAGE, BOARD = "report.html", "leaderboard.csv"
CAPTION = (
    "Mean validation score against what a model costs. Filled and joined: nothing else is both "
    "better and cheaper. Only models of all tasks are shown."
)
WEIGHTS: Units = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""))
TIME: Units = ((1, "ms"),)
RIVALS = {"alone": "its own network", "joint": "one network for all", LINEAR: "a linear model"}
RIVALS_OF_ONE = {"joint": "the network of the recipe", LINEAR: "a linear model"}


def report(
    search: SearchContext, outcome: Outcome, progress: Mapping[str, Progress], own: StudyTracker
) -> None:
    """Write the verdict into the outcome, and all files; MLflow gets them, too."""
    folder = search.folder
    outcome.verdict = list(verdict(outcome, progress))
    page = folder / PAGE
    checkpoint = RunFolder(outcome.model).checkpoints / BEST
    outcome.checksum = checkpoint_fingerprint([checkpoint])
    known = read_json(folder / RESULTS) or {}
    if known.get("checksum") != outcome.checksum:  # else it is there from before
        keep_in_mlflow(search, outcome, checkpoint, own)
    write_text(folder / BOARD, leaderboard(outcome))
    write_text(folder / RESULTS, as_json(outcome))
    write_text(page, report_page(search, outcome, progress))
    outcome.report = page
    own.answered(dict(figures(outcome)), [page, folder / BOARD, folder / RESULTS])
    own.adopt([search.folder / "trials" / name for name in search.plan.trials])


def keep_in_mlflow(
    search: SearchContext, outcome: Outcome, checkpoint: Path, own: StudyTracker
) -> None:
    """Keep the model in the search's own run; if that fails, it is said, and all else is done."""
    config, folder = search.want.config, RunFolder(outcome.model).model
    speak = partial(say, search.console)
    run = RunFolder(search.folder)
    with costs_only_itself("model", config, run, own.tracker, speak, outcome.notes):
        own.found(checkpoint, folder, config["allow_targets"])


def verdict(outcome: Outcome, progress: Mapping[str, Progress]) -> Iterator[str]:
    """Yield what a search says, the most important first."""
    chosen, tasks = outcome.chosen, list(outcome.selections)
    yield f"the best model is {what_it_is(outcome)}{mean_words(outcome)}"
    yield from outcome.notes
    for task in tasks:
        gained = gain_words(outcome, task)
        yield f"{code(task)} is answered by {who_answers(outcome, task)}; {gained}"
    yield (
        f"it has {format_scaled(chosen.parameters).strip()} weights and takes "
        f"{chosen.latency:.1f} ms a row on this machine"
    )
    other = next((one for one in outcome.candidates if one is not chosen), None)
    if other is not None:
        place = other.folder.relative_to(outcome.model.parent).as_posix()
        change = 100 * (other.mean() - chosen.mean())
        yield (
            f"the {called(other, outcome)}, in {place}, scores {change:+.1f} points on validation "
            f"in comparison, with {format_scaled(other.parameters).strip()} weights and "
            f"{other.latency:.1f} ms a row"
        )
    lost = [name for name, own in progress.items() if own.status == "failed"]
    if lost:
        yield f"{count(len(lost), 'run')} failed, which the page lists: {listed(lost)}"


def called(one: Candidate, outcome: Outcome) -> str:
    """Return what a candidate is called where it isn't returned."""
    own = list(dict.fromkeys(n for one in outcome.selections.values() for n in one.weights))
    return one.name if one.name == STUDENT or len(own) > 1 else f"model {own[0]}"


def members(outcome: Outcome) -> list[str]:
    """Return the trained models of which the chosen one is made."""
    if outcome.chosen.name == STUDENT:
        return [STUDENT]
    return list(dict.fromkeys(n for one in outcome.selections.values() for n in one.weights))


def what_it_is(outcome: Outcome) -> str:
    """Return what is returned, in words."""
    own = members(outcome)
    if own == [STUDENT]:
        return "the student, one network that learnt from the ensemble"
    if own == [LINEAR]:
        return "the linear model"
    return f"one network, {own[0]}" if len(own) == 1 else f"{len(own)} models together"


def mean_words(outcome: Outcome) -> str:
    """Return what the chosen model gains over those it is made of or can be compared with."""
    tasks, own = len(outcome.selections), members(outcome)
    if tasks == 1:
        return ""
    parts = []
    for word, name in (RIVALS | {"alone": "each task's own network"}).items():
        known = [gains[word].difference for gains in outcome.gains.values() if word in gains]
        if known and own != [word]:
            parts.append(f"{100 * fmean(known):+.1f} points over {name}")
    if not parts:
        return ""
    tested = len(outcome.gains)
    of = "all tasks" if tested == tasks else f"the {count(tested, 'task')} with test labels"
    return f": on test rows {listed(parts)}, as a mean of {of}"


def who_answers(outcome: Outcome, task: str) -> str:
    if outcome.chosen.name == STUDENT:
        return "the student"
    weights = outcome.selections[task].weights
    ordered = sorted(weights, key=lambda name: -weights[name])
    if len(ordered) == 1:
        return ordered[0]
    return listed([f"{name} ({weights[name]:.0%})" for name in ordered])


def gain_words(outcome: Outcome, task: str) -> str:
    """Return what a task's answers gain on test rows, over models that don't give them alone."""
    gains = outcome.gains.get(task, {})
    if not gains:
        return "no test row has its label, so what it gains isn't known"
    same = {JOINT: "joint", LINEAR: LINEAR, alone(task): "alone"}.get(who_answers(outcome, task))
    names = RIVALS if len(outcome.selections) > 1 else RIVALS_OF_ONE
    found = [
        f"{100 * one.difference:+.1f} ({100 * one.low:+.1f} to {100 * one.high:+.1f}) over "
        f"{names[word]}"
        for word, one in gains.items()
        if word != same
    ]
    return f"on test rows {listed(found)}" if found else "nothing else to compare with"


def leaderboard(outcome: Outcome) -> str:
    """Return a row for each model: scores, weights, seconds."""
    tasks = list(outcome.selections)
    columns = ["model", *(f"valid/{t}" for t in tasks), *(f"test/{t}" for t in tasks)]
    rows: list[Sequence[Any]] = []
    for name in leaders(outcome):
        own = outcome.scores[name]
        rows.append((
            name, *(own["valid"].get(t) for t in tasks), *(own["test"].get(t) for t in tasks),
            outcome.parameters[name], outcome.seconds.get(name),
        ))  # fmt: skip
    rows += [
        (
            one.name, *(one.valid.get(t) for t in tasks), *(one.test.get(t) for t in tasks),
            one.parameters, None,
        )
        for one in outcome.candidates
    ]  # fmt: skip
    return csv_text([*columns, "parameters", "seconds"], rows)


def as_json(outcome: Outcome) -> str:
    """Return everything, for programs."""
    content = {
        "verdict": outcome.verdict,
        "chosen": outcome.chosen.name,
        "model": str(outcome.model),
        "checksum": outcome.checksum,
        "candidates": [{**asdict(one), "folder": str(one.folder)} for one in outcome.candidates],
        "selections": {task: asdict(one) for task, one in outcome.selections.items()},
        "gains": {t: {w: asdict(g) for w, g in own.items()} for t, own in outcome.gains.items()},
        "scores": outcome.scores,
        "seconds": outcome.seconds,
        "parameters": outcome.parameters,
        "notes": outcome.notes,
    }
    return json_text(content, indent=1) + "\n"


def figures(outcome: Outcome) -> Iterator[tuple[str, float]]:
    """Yield what MLflow charts."""
    for split, scores in (("valid", outcome.chosen.valid), ("test", outcome.chosen.test)):
        yield from ((f"{split}/{task}", value) for task, value in scores.items())
    for task, one in outcome.selections.items():
        yield f"estimate/{task}", one.estimate
    yield "parameters", float(outcome.chosen.parameters)
    yield "latency_ms", outcome.chosen.latency


def report_page(search: SearchContext, outcome: Outcome, progress: Mapping[str, Progress]) -> str:
    """Return the page: what was found, what everything scores and costs, how to do it again."""
    facts = {
        "tasks": len(outcome.selections),
        "models trained": sum(p.status == "finished" for p in progress.values()),
        "given up early": sum(p.status == "paused" for p in progress.values()),
        "failed": sum(p.status == "failed" for p in progress.values()),
        "time": duration(search.clock.seconds()),
    }
    chart = cost_chart(outcome)
    drawn = [(chart, [(p.title, svg(p, n)) for n, p in enumerate(chart.panels)])] if chart else []
    return render(
        "search.html",
        kind="Search",
        name=search.plan.name,
        lines=outcome.verdict,
        facts=facts,
        notes=[],  # they are in the verdict
        colours=COLOURS,
        charts=drawn,
        tables=list(tables(search, outcome, progress)),
        again=shell_command("search", override("resume", search.folder), "time_limit=2h"),
        winner=winner_command(search, outcome),
    )


def tables(
    search: SearchContext, outcome: Outcome, progress: Mapping[str, Progress]
) -> Iterator[ReportTable]:
    """Yield the tables of the page."""
    tasks, trials = list(outcome.selections), search.plan.trials
    rows = []
    for task, one in outcome.selections.items():
        rows.append([task, who_answers(outcome, task), cell(one.score), cell(one.estimate)])
    yield ReportTable(
        "Who answers which task", ["task", "models", "validation", "estimate"], rows, 2,
        "The estimate is of rows that the selection wasn't made on.",
    )  # fmt: skip
    gains = [
        [task, RIVALS[word], *(f"{100 * v:+.1f}" for v in (own.difference, own.low, own.high))]
        for task, every in outcome.gains.items()
        for word, own in every.items()
    ]
    note = "Points on test rows, with the 95 % interval over these rows."
    yield ReportTable(
        "What the model gains", ["task", "over", "gain", "low", "high"], gains, 3, note
    )
    headings = [f"{task} {split}" for split in ("valid", "test") for task in tasks]
    board = [
        [
            name,
            differs(search.plan, trials[name]) if name in trials else "",
            *(cell(outcome.scores[name][s].get(t)) for s in ("valid", "test") for t in tasks),
            format_scaled(outcome.parameters[name]),
            duration(outcome.seconds.get(name, 0.0)),
        ]
        for name in leaders(outcome)
    ]
    for model in outcome.candidates:
        cells = [cell(own.get(t)) for own in (model.valid, model.test) for t in tasks]
        mark = "returned" if model is outcome.chosen else ""
        board.append([model.name, mark, *cells, format_scaled(model.parameters), ""])
    columns = ["model", "differs from the recipe in", *headings, "weights", "time"]
    yield ReportTable("Everything that was trained", columns, board, len(headings) + 2)
    lost = [[name, str(p.message)] for name, p in progress.items() if p.status == "failed"]
    if lost:
        yield ReportTable("Failed", ["model", "why"], lost, 0)


def difference(trial: Trial, epochs: int) -> str:
    """Return what a trial has other than the search's recipe; epochs: of its own recipe."""
    other = trial.epochs != epochs and trial.kind == "drawn"
    begins = [] if trial.recipe is None else [f"preset={trial.recipe}"]
    longer = [f"trainer.max_epochs={trial.epochs}"] if other else []
    begun = [f"from {trial.source}"] if trial.source is not None else []
    return " ".join([*begins, *trial.overrides, *longer, *begun])


def differs(plan: SearchPlan, trial: Trial) -> str:
    return difference(trial, plan.recipe(trial.recipe).epochs)


def winner_command(search: SearchContext, outcome: Outcome) -> str:
    """Return the command that trains the best single model of all tasks again."""
    plan, whole = search.plan, set(outcome.selections)
    known = [name for name in leaders(outcome) if whole <= outcome.scores[name]["valid"].keys()]
    name = next((one for one in known if one in plan.trials), None)
    if name is None:
        return ""
    trial = plan.trials[name]
    words = combined(
        plan.recipe(trial.recipe).base, trial.overrides, [f"trainer.max_epochs={trial.epochs}"]
    )
    dirs = [f"--config-dir={folder}" for folder in plan.config_dirs]
    return shell_command("fit", *dirs, *redact_arguments([*words, f"seed={plan.seed}"]))


def cost_chart(outcome: Outcome) -> Chart | None:
    """Return the validation scores against weights, and those of the candidates against time."""
    tasks = set(outcome.selections)
    single = {
        name: (float(outcome.parameters[name]), fmean(own["valid"].values()))
        for name, own in outcome.scores.items()
        if tasks <= own["valid"].keys() and outcome.parameters[name]
    }
    candidates = {one.name: (float(one.parameters), one.mean()) for one in outcome.candidates}
    speed = {one.name: (one.latency, one.mean()) for one in outcome.candidates}
    panels = [Panel("weights", partial(draw, {**single, **candidates}, WEIGHTS), HEIGHT)]
    if len(speed) > 1:
        panels.append(Panel("milliseconds a row", partial(draw, speed, TIME), HEIGHT))
    return Chart("pareto", "What a score costs", CAPTION, panels) if len(single) > 1 else None


def draw(points: Mapping[str, tuple[float, float]], units: Units, axis: Axes, hover: Hover) -> None:
    """Draw {model: (cost, score)}, those that nothing beats in both filled and joined."""
    factor, word = next((u for u in units if max(x for x, _ in points.values()) >= u[0]), units[-1])
    places = {name: (x / factor, 100 * y) for name, (x, y) in points.items()}
    ahead = pareto_front([y for _, y in places.values()], [x for x, _ in places.values()])
    front = [name for name, is_ahead in zip(places, ahead, strict=True) if is_ahead]
    line = sorted(places[name] for name in front)
    axis.step([x for x, _ in line], [y for _, y in line], where="post", color=HELPED, lw=1.2)
    for name, (x, y) in places.items():
        face, edge = (HELPED, HELPED) if name in front else ("none", UNCLEAR)
        (mark,) = axis.plot(x, y, "o", ms=8, mfc=face, mec=edge, mew=1.6)
        hover.add(mark, f"{name}: {y:.1f} for {x:.3g} {word}")
    axis.margins(x=0.16, y=0.16)
    cost_axis(axis, [x for x, _ in places.values()], word)
    name_marks(axis, sorted(front, key=lambda name: -places[name][1]), places)
    axis.locator_params(axis="y", nbins=6)
    label_axis(axis, y="mean score, %")
