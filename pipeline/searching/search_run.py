"""A search from its plan to its model: stages of trials, then the choice."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

from rich.console import Console

from pipeline.command import CommandResult
from pipeline.crash_report import is_crash, keep_evidence
from pipeline.engines.engine import Engine
from pipeline.engines.local import cores
from pipeline.engines.process import ProcessLock
from pipeline.run_folder import RunFolder
from pipeline.searching.budget import (
    SHRINK,
    Costs,
    best_third,
    divided,
    fitting,
    learnt_ratio,
    most_trials,
    promoted,
    rungs,
)
from pipeline.searching.clock import Clock
from pipeline.searching.console import SearchDisplay, print_leaders, print_plan
from pipeline.searching.context import SearchContext
from pipeline.searching.draws import Told, draw, keep, unused_names
from pipeline.searching.groups import gradient_cosines, task_groups
from pipeline.searching.library import JOINT, LINEAR, alone, joint
from pipeline.searching.outcome import (
    STUDENT,
    Outcome,
    Selected,
    conclude,
    select_models,
)
from pipeline.searching.plan import PLAN, SearchPlan, Stage, Trial, trial_files
from pipeline.searching.report import report
from pipeline.searching.request import (
    COMMAND,
    check_space,
    find_plan,
    make_plan,
    recipe_config,
    time_limit,
)
from pipeline.searching.space import Space, reading, space_of
from pipeline.searching.students import student_shape
from pipeline.searching.trials import (
    Progress,
    TrialJob,
    job_of,
    merging,
    progress_of,
    rows_share,
    work_share,
)
from pipeline.studies.jobs import JobContext
from pipeline.studies.mlflow_run import StudyTracker
from pipeline.studies.prepare import StudyRequest, check_launcher, lead, make_engine
from pipeline.studies.scheduler import Limits, Scheduler
from pipeline.terminal import say
from pipeline.text_format import duration, listed, relpath
from pipeline.tracking.redact import redact
from pollinate.console import new_console
from pollinate.errors import PollinateError, UsageError
from pollinate.interrupt import SIGNAL_EXIT_CODES, StopRequest
from pollinate.overrides import override
from pollinate.program import shell_command

STOPPING = (
    "\nstopping: the runs under way are asked to save, which takes a step, or what is left of a "
    "validation; Ctrl-C again stops at once\n"
)
EPOCHS = "trainer.max_epochs"
STUDENT_SHARE = 1.3  # what the student's run takes, beside the run of all tasks
CHOICE = 20.0  # seconds for selecting, scoring and reporting, besides a share of the limit
CHOICE_SHARE = 0.04


@dataclass(kw_only=True)
class SearchResult(CommandResult):
    """folder: of the search; outcome: what came of it, None of one that was stopped or only shown.

    model: run folder of the model, None as well.
    """

    folder: Path
    outcome: Outcome | None = None
    model: Path | None = None


def start(want: StudyRequest, leader: ProcessLock, started: float) -> SearchResult:
    """Find or make the plan, and run it."""
    console, dry = new_console(), bool(want.config["dry_run"])
    plan = find_plan(want)
    if not dry:
        check_launcher(want.config["launcher"])
        engine = make_engine(want.config)
        lead(COMMAND, want.folder, leader)
        plan = find_plan(want)  # another one may have made it since
    if plan is None:
        plan = make_plan(want, console, started, timed=True)
    search = SearchRun(plan, want, console, started)
    check_space(search.space({}, ()), plan)
    print_plan(console, plan, search.costs()[None], search.jobs, search.limit)
    if dry:
        return SearchResult(folder=want.folder)
    search.require_time()
    save_plan(plan, want)
    return search.run(engine)


def save_plan(plan: SearchPlan, want: StudyRequest) -> None:
    want.folder.mkdir(parents=True, exist_ok=True)
    folder = RunFolder(want.folder)
    if not (want.folder / PLAN).exists():  # a config.yaml alone is of one killed before it had any
        folder.write_config(redact({**want.config, "run_dir": None, "resume": None}))
    plan.save(want.folder)


class SearchRun:
    """Runs what there is time for.

    Stages follow each other. The first has the recipe on all tasks; the second each task alone, and
    the linear model; then come drawn trials, by successive halving. What a stage is depends on what
    the ones before have reached, and is written into the plan before it begins: a search that was
    stopped goes through the same stages, of which finished runs are only read.
    """

    def __init__(
        self, plan: SearchPlan, want: StudyRequest, console: Console, started: float
    ) -> None:
        self.plan = plan
        self.want = want
        self.console = console
        self.folder = want.folder
        self.limit = time_limit(want.config)
        self.jobs = int(want.config["jobs"] or cores())
        self.context = JobContext(self.folder, want.config["launcher"], plan.config_dirs)
        self.recipes = {name: recipe_config(plan, name) for name in plan.recipes}
        self.clock = Clock(self.folder, started)
        self.search = SearchContext(
            plan, want, self.folder, self.recipes[None], console, self.clock
        )
        self.stop = StopRequest(STOPPING)

    def space(
        self, cosines: Mapping[frozenset[str], float], better_alone: tuple[str, ...]
    ) -> Space:
        groups = task_groups(self.plan.tasks, cosines, better_alone)
        read = {name for one in self.plan.facts.tasks.values() for name in one.modalities}
        recipes = {name: reading(config, read) for name, config in self.recipes.items()}
        starts = {name: joint(name) for name in recipes if joint(name) in self.plan.trials}
        return space_of(self.want.config["space"], recipes, groups, starts)

    def require_time(self) -> None:
        """Check that the run of all tasks, at least, fits.

        Raises:
            UsageError: with the time that is needed.
        """
        needed = self.whole_seconds(None) + self.reserve()
        if self.plan.facts.step is not None and needed > self.limit:
            raise UsageError(
                f"time_limit must be enough for the run of all tasks, about {duration(needed)}, "
                f"got {duration(self.limit)}; give more, or fewer epochs: trainer.max_epochs=N"
            )

    def run(self, engine: Engine) -> SearchResult:
        own = StudyTracker(self.want.config, self.folder)
        self.stop.install()
        status = "failed"
        try:
            engine.open(self.folder)
            own.await_id()
            self.context.parent = lambda: own.tracker.run_id
            if not self.stages(engine):
                status = "interrupted"
                return self.interrupted()
            found = self.choose(engine, own)
            status = "interrupted" if found.interrupted else "finished"
            return found
        except Exception as error:
            if is_crash(error, begun=True):
                keep_evidence(error, self.want.config, self.folder, tracker=own.tracker)
            raise
        finally:
            self.stop.restore()
            engine.close()
            own.close(status)

    def stages(self, engine: Engine) -> bool:
        """Run the stages of the plan, then those for which there is time; False if stopped."""
        for number in range(len(self.plan.stages)):
            if not self.stage(engine, number):
                return False
        while (stage := self.next_stage()) is not None:
            self.plan.stages.append(stage)
            self.plan.save(self.folder)
            if not self.stage(engine, len(self.plan.stages) - 1):
                return False
        return True

    def stage(self, engine: Engine, number: int) -> bool:
        """Run a stage to its end; False if the user stopped it."""
        stage, costs = self.plan.stages[number], self.costs()
        jobs = [
            job_of(self.plan, self.context, stage, name, self.seconds_left(costs, name, until))
            for name, until in stage.until.items()
        ]
        return self.schedule(engine, jobs, stage.title)

    def schedule(self, engine: Engine, jobs: list[TrialJob], title: str) -> bool:
        limits = Limits(self.jobs, self.want.config["retries"], None, self.want.cwd)
        left = sum(not job.is_finished() for job in jobs)
        if left:
            say(self.console, f"{title}: {left} to run{self.clock.rest(self.limit)}")
        stopping = self.stopping
        with SearchDisplay(self.console, self.jobs, self.scores) as display:
            whole = Scheduler(jobs, engine, limits, display, stopping).run()
        self.clock.note()
        return whole

    def scores(self, name: str) -> Mapping[str, float]:
        """Return what a trial has reached on validation rows: {task: score}."""
        return progress_of(self.plan, self.folder, name).scores

    def stopping(self) -> bool:
        self.clock.tick()
        return self.stop.signal_name is not None

    def next_stage(self) -> Stage | None:
        """Return what comes next, None where the time is over."""
        plan = self.plan
        if not plan.stages:
            plan.trials[JOINT] = Trial(JOINT, "joint", plan.tasks, [], plan.epochs)
            title = "all tasks together, by the recipe" if len(plan.tasks) > 1 else "the recipe"
            return Stage(title, {JOINT: None})
        progress = self.progress()
        if len(plan.stages) == 1:
            return self.each_alone()
        networks = [own for name, own in progress.items() if name != LINEAR]
        if all(own.status == "failed" for own in networks):
            raise PollinateError(
                f"nothing could be trained, the first run failed so: {networks[0].message}"
            )
        if progress[JOINT].status == "failed":
            return None  # what is drawn is round the recipe, which fails
        return self.promotions(progress) or self.drawn(progress)

    def each_alone(self) -> Stage:
        """Return the stage of what the result must not be below: linear models, each task alone.

        And of other recipes on all tasks, where there is time.
        """
        plan, costs = self.plan, self.costs()[None]
        tasks, parts = plan.tasks, []
        found = [Trial(LINEAR, "linear", tasks, ["model=linear"], 1)]
        for task in tasks if len(tasks) > 1 else ():
            seconds = costs.seconds(rows_share(plan.facts, [task]), plan.epochs)
            if seconds / self.jobs <= self.remaining():
                found.append(Trial(alone(task), "alone", [task], ["balancer=equal"], plan.epochs))
        parts += ["each task alone"] if len(found) > 1 else []
        for name, other in plan.others.items():
            if self.whole_seconds(name) <= self.remaining():
                own = joint(name)
                found.append(Trial(own, "joint", tasks, [], other.epochs, recipe=name))
                parts.append(f"all tasks by preset {name}")
        plan.trials |= {one.name: one for one in found}
        return Stage(listed([*parts, "linear models"]), {one.name: None for one in found})

    def promotions(self, progress: Mapping[str, Progress]) -> Stage | None:
        """Return the stage in which the best paused trials of the last one go on, if any paused."""
        last = self.plan.stages[-1]
        paused = {name for name, until in last.until.items() if until is not None}
        if not paused:
            return None
        qualities = {
            name: self.quality(name, progress[name]) for name in last.until if name in paused
        }
        until = {}
        for name in best_third(qualities, promoted(len(qualities))):
            done = last.until[name]
            later = [n for n in self.rungs_of(name) if done is not None and n > done]
            until[name] = None if len(later) <= 1 else later[0]
        costs = self.costs()
        whole = {name: self.seconds_left(costs, name, None) for name in until}
        kept = fitting(whole, self.jobs, self.remaining())  # to their end, not to the next rung
        until = {name: until[name] for name in kept}
        return Stage("the best of these", until) if until else None

    def drawn(self, progress: Mapping[str, Progress]) -> Stage | None:
        """Return a stage of new trials, as many as can be brought to an end in time."""
        most = self.want.config["trials"]
        known = [name for name, trial in self.plan.trials.items() if trial.kind == "drawn"]
        costs, left = self.costs(), self.remaining()
        shortest = min(self.plan.recipes, key=self.whole_seconds)
        steps = self.compared(costs[shortest], self.plan.recipe(shortest).epochs)
        gaps = [b - a for a, b in zip([0, *steps[:-1]], steps, strict=True)]
        each = [costs[shortest].seconds(1.0, gap) for gap in gaps]
        wanted = self.jobs * SHRINK ** (len(steps) - 1)
        if most is not None:
            wanted = min(wanted, most - len(known))
        count = most_trials(wanted, each, self.jobs, left) if wanted > 0 else 0
        if not count:
            return None
        space, stage = self.space_now(progress), len(self.plan.stages)
        told = self.told(progress)
        keep(self.folder, self.plan.name, space, told)
        seed = crc32(f"{self.plan.seed}/{self.plan.name}/{stage}".encode())
        found: dict[str, Trial] = {}
        names = unused_names(self.plan.trials)

        def fits(values: Mapping[str, Any]) -> bool:
            return self.seconds_of(costs, self.trial_of("", space, values)) <= left

        for values in draw(space, told, count, seed, fits):
            name = next(names)
            trial = self.trial_of(name, space, values)
            compared = self.compared(costs[trial.recipe], trial.epochs, trial)
            found[name] = replace(trial, rungs=compared)
        until = {
            name: None if len(trial.rungs) == 1 else trial.rungs[0] for name, trial in found.items()
        }
        lengths = {n: self.seconds_of(costs, one, until[n]) for n, one in found.items()}
        kept = fitting(lengths, self.jobs, left)
        self.plan.trials |= {name: found[name] for name in kept}
        return Stage("drawn by Optuna", {name: until[name] for name in kept}) if kept else None

    def trial_of(self, name: str, space: Space, values: Mapping[str, Any]) -> Trial:
        """Return the trial of a draw."""
        recipe, tasks = self.plan.recipe(space.recipe(values)), space.tasks(values)
        factor = values.get(EPOCHS, 1.0)
        whole = isinstance(factor, int)
        epochs = int(factor) if whole else max(1, round(recipe.epochs * factor))
        own = space.overrides({key: value for key, value in values.items() if key != EPOCHS})
        target = space.target(values)
        if target is not None:
            merged = merging(recipe.facts, target, tasks, epochs)
            own, epochs = [*own, *merged.overrides], merged.rounds
        source, drawn = space.source(values), dict(values)
        return Trial(name, "drawn", tasks, own, epochs, source, drawn, space.recipe(values))

    def compared(self, costs: Costs, epochs: int, trial: Trial | None = None) -> list[int]:
        """Return the epochs after which a trial is compared with others.

        As many times as the configuration says, else by how long it takes: of all tasks for None.
        """
        given = self.want.config["rungs"]
        if given is not None:
            return divided(epochs, given)
        share = 1.0 if trial is None else work_share(self.plan.recipe(trial.recipe).facts, trial)
        return rungs(epochs, costs.seconds(share, epochs))

    def rungs_of(self, name: str) -> list[int]:
        """Return the epochs after which a trial is compared, as they were written down."""
        trial = self.plan.trials[name]
        # of a search from before they were
        return trial.rungs or self.compared(self.costs()[trial.recipe], trial.epochs, trial)

    def space_now(self, progress: Mapping[str, Progress]) -> Space:
        joint = progress[JOINT].scores
        better = tuple(
            task
            for task in self.plan.tasks
            if (own := progress.get(alone(task))) is not None
            and own.scores.get(task, -float("inf")) > joint.get(task, -float("inf"))
        )
        history = trial_files(self.folder, JOINT).run.metrics
        return self.space(gradient_cosines(history, self.plan.tasks), better)

    def quality(self, name: str, progress: Progress) -> float | None:
        """Return what a trial gains over the run of all tasks: sum_t (s_t - s_t^joint) / T.

        Tasks that it doesn't learn count 0, so that trials of any tasks can be compared.
        """
        if not progress.scores:
            return None
        joint = progress_of(self.plan, self.folder, JOINT).scores
        gains = [value - joint.get(task, value) for task, value in progress.scores.items()]
        return sum(gains) / len(self.plan.tasks)

    def told(self, progress: Mapping[str, Progress]) -> dict[str, Told]:
        """Return what Optuna is told: all drawn trials that have ended."""
        found = {}
        for name, trial in self.plan.trials.items():
            if trial.kind != "drawn":
                continue
            own = progress[name]
            quality = self.quality(name, own)
            if own.status == "failed" or quality is None:
                found[name] = Told(trial.drawn, failed=True)
            elif own.status == "paused":
                found[name] = Told(trial.drawn, {own.epochs: quality})
            elif own.status == "finished":
                found[name] = Told(trial.drawn, {own.epochs: quality}, quality)
        return found

    def progress(self) -> dict[str, Progress]:
        return {name: progress_of(self.plan, self.folder, name) for name in self.plan.trials}

    def costs(self) -> dict[str | None, Costs]:
        """Return what trials of each recipe take, by timed steps and by runs that have ended."""
        plan = self.plan
        done = {
            name: own
            for name, own in self.progress().items()
            if own.status in ("finished", "paused")
            and own.seconds > 0
            and plan.trials[name].kind != "linear"
        }
        found = {}
        for recipe in plan.recipes:
            mine = {n: own for n, own in done.items() if plan.trials[n].recipe == recipe}
            found[recipe] = self.costs_of(recipe, mine)
        return found

    def costs_of(self, recipe: str | None, done: Mapping[str, Progress]) -> Costs:
        """Return what trials of a recipe take; done: those that have ended or paused."""
        plan, own = self.plan, self.plan.recipe(recipe)
        facts = own.facts
        step = 0.0 if facts.step is None else facts.step
        rows = max(1, sum(facts.rows.values()))
        scored = sum(facts.evaluated.values()) / max(1, own.epochs) / 3
        unit = step * facts.steps_per_epoch + step / rows * scored
        known = Costs(facts.start, unit)
        whole = done.get(joint(recipe))
        if unit == 0.0 and whole is not None:  # no step could be timed
            return replace(known, unit=max(0.0, whole.seconds - facts.start) / own.epochs)
        expected, taken = [], []
        for name, one in done.items():
            expected.append(known.unit * work_share(facts, plan.trials[name]) * one.epochs)
            taken.append(max(0.0, one.seconds - known.start))
        return replace(known, ratio=learnt_ratio(expected, taken))

    def whole_seconds(self, recipe: str | None) -> float:
        """Return what a recipe's run of all tasks takes."""
        return self.costs()[recipe].seconds(1.0, self.plan.recipe(recipe).epochs)

    def seconds_of(
        self, costs: Mapping[str | None, Costs], trial: Trial, until: int | None = None
    ) -> float:
        """Return what a trial takes up to some epochs, or to its end."""
        share = work_share(self.plan.recipe(trial.recipe).facts, trial)
        return costs[trial.recipe].seconds(share, trial.epochs if until is None else until)

    def seconds_left(
        self, costs: Mapping[str | None, Costs], name: str, until: int | None
    ) -> float:
        """Return what a trial will take, by its own speed where it has begun."""
        trial = self.plan.trials[name]
        epochs = trial.epochs if until is None else until
        own, start = progress_of(self.plan, self.folder, name), costs[trial.recipe].start
        left = max(0, epochs - own.epochs)
        if own.status == "paused":
            return start + left * max(0.0, own.seconds - start) / own.epochs
        return self.seconds_of(costs, trial, left)

    def reserve(self) -> float:
        """Return the seconds that are kept for what follows the trials."""
        student = self.student_seconds() if self.want.config["distil"] else 0.0
        return self.reserve_of_choice() + student

    def reserve_of_choice(self) -> float:
        return CHOICE + CHOICE_SHARE * self.limit

    def student_seconds(self) -> float:
        return STUDENT_SHARE * self.whole_seconds(None)

    def remaining(self) -> float:
        return self.limit - self.clock.seconds() - self.reserve()

    def choose(self, engine: Engine, own: StudyTracker) -> SearchResult:
        """Select per task, make the model, report."""
        search, progress = self.search, self.progress()
        selected = select_models(search, progress)
        stopped = self.stop.signal_name is not None
        student = None if stopped else self.student(engine, selected)
        if self.stop.signal_name is not None:
            return self.interrupted()
        outcome = conclude(search, self.progress(), selected, student)
        report(search, outcome, self.progress(), own)
        print_leaders(self.console, outcome)
        for line in outcome.verdict:
            say(self.console, line)
        say(self.console, f"report {relpath(outcome.report)}")
        say(self.console, f"model {relpath(outcome.model)}")
        return SearchResult(folder=self.folder, outcome=outcome, model=outcome.model)

    def student(self, engine: Engine, selected: Selected) -> Path | None:
        """Train a student of the ensemble, if it is wanted, or if there is time; its run folder."""
        plan, wanted = self.plan, self.want.config["distil"]
        if wanted is False or (not wanted and selected.needs_no_student):
            return None
        teachers = dict.fromkeys(selected.teachable, str(selected.teacher))
        if not teachers:
            if wanted:
                selected.notes.append("no network learnt from the ensemble: no task can be taught")
            return None
        shape = student_shape(self.search, selected)
        own = [*shape.overrides, "transfer=hinton", override("transfer.teachers", teachers)]
        taught = {task: dict(weights) for task, weights in selected.taught.items()}
        student = Trial(
            "", STUDENT, plan.tasks, own, shape.epochs, recipe=shape.recipe, taught_by=taught
        )
        name, known = student_name(plan.trials, student)
        if not known:
            left = self.limit - self.clock.seconds() - self.reserve_of_choice() / 2
            if not wanted and STUDENT_SHARE * self.seconds_of(self.costs(), shape) > left:
                return None
            plan.trials[name] = replace(student, name=name)
            plan.stages.append(Stage("one network that answers as the ensemble does", {name: None}))
            plan.save(self.folder)
        number = next(i for i, stage in enumerate(plan.stages) if name in stage.until)
        self.stage(engine, number)
        files = trial_files(self.folder, name)
        return files.path if files.is_finished() else None

    def interrupted(self) -> SearchResult:
        name = str(self.stop.signal_name)
        command = shell_command("search", override("resume", relpath(self.folder)), *self.want.own)
        say(self.console, f"\nstopped by {name}; everything is saved. Go on with\n  {command}")
        code = SIGNAL_EXIT_CODES.get(name, 1)
        return SearchResult(exit_code=code, interrupted=name, folder=self.folder)


def student_name(trials: Mapping[str, Trial], student: Trial) -> tuple[str, bool]:
    """Return the name of a student, and whether it is one that is known: taught and trained alike.

    Args:
        trials: of the plan; student: without a name.
    """
    count = sum(one.kind != STUDENT for one in trials.values())
    usual = f"{STUDENT}-{count}"
    for name, one in trials.items():
        # one from before it was written down who had taught it
        alike = one if one.taught_by else replace(one, taught_by=student.taught_by)
        old = not one.taught_by and name != usual
        if one.kind == STUDENT and not old and replace(alike, name="") == student:
            return name, True
    names = (f"{STUDENT}-{number}" for number in itertools.count(count))
    return next(name for name in names if name not in trials), False
