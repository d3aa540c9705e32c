"""The choice at a search's end: who answers each task, in one model; what it costs and gains."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from torch import Tensor

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.checkpoints import (
    BEST,
    checkpoint_fingerprint,
    read_checkpoint,
    read_spec,
)
from lightning_modules.tasks.base import Task, as_task
from lightning_modules.trust.stored import TRUST
from pipeline.build import build_datamodule, wants_calibration
from pipeline.calibration_run import calibrate_checkpoint
from pipeline.run_folder import RunFolder
from pipeline.searching.context import SearchContext
from pipeline.searching.gains import Gain, gain
from pipeline.searching.latency import latency_ms
from pipeline.searching.library import JOINT, LINEAR, Answers, alone, read_answers
from pipeline.searching.plan import model_folder, trial_files
from pipeline.searching.selection import Judge, Selection, select, together
from pipeline.searching.trials import Progress
from pipeline.studies.trial_files import read_json
from pipeline.terminal import say
from pipeline.text_format import count
from pollinate.errors import PollinateError
from pollinate.files import write_json
from pollinate.overrides import override

ENSEMBLE: Final = "ensemble"
CALIBRATED_ROWS = 256  # at a time
STUDENT: Final = "student"
TEACHER = (
    "teacher"  # folder of the ensemble that a student learns from, where limits bind the other
)
RESULTS = "results.json"
PLACES = 3  # models of all tasks for which a place is kept within limits, one after the other


@dataclass(frozen=True)
class Candidate:
    """A model that may be returned.

    name: for people; folder: its run folder, None of one that isn't made yet.
    valid, test: {task: score}; parameters: weights; latency: milliseconds for a row.
    """

    name: str
    folder: Path
    valid: Mapping[str, float]
    test: Mapping[str, float]
    parameters: int
    latency: float

    def mean(self) -> float:
        return fmean(self.valid.values())


@dataclass
class Outcome:
    """What came of a search.

    scores: {model: {split: {task: score}}} of all that was trained, the linear model too.
    selections: {task: who answers it in the ensemble}.
    candidates: the ensemble, and a student if there is one; chosen: the one that is returned.
    gains: {task: {"alone", "joint" or "linear": what the chosen one gains on test rows}}.
    verdict: in words; model: run folder; checksum: of its checkpoint; report: page.
    """

    scores: Mapping[str, Mapping[str, Mapping[str, float]]]
    seconds: Mapping[str, float]
    parameters: Mapping[str, int]
    selections: Mapping[str, Selection]
    candidates: Sequence[Candidate]
    chosen: Candidate
    gains: Mapping[str, Mapping[str, Gain]]
    notes: list[str]
    verdict: list[str] = field(default_factory=list)
    model: Path = Path()
    checksum: str = ""
    report: Path = Path()


@dataclass(frozen=True)
class Selected:
    """What answers in the ensemble, and all that was looked at.

    folders: {model: run folder}; valid, test: {task: what all models answer}.
    selections: {task: who answers it}; ensemble: run folder; notes: for people.
    costs: {model: its weights, its milliseconds}, where there are limits.
    taught: {task: {model: share}} of what a student learns from, which no limit binds;
    teacher: its run folder.
    """

    data: MixedDataModule
    tasks: Mapping[str, Task]
    folders: Mapping[str, Path]
    valid: Mapping[str, Answers]
    test: Mapping[str, Answers]
    selections: Mapping[str, Selection]
    ensemble: Path
    notes: list[str]
    costs: Mapping[str, tuple[int, float]]
    taught: Mapping[str, Mapping[str, float]]
    teacher: Path

    @property
    def members(self) -> list[str]:
        """The models of the ensemble."""
        return list(dict.fromkeys(n for one in self.selections.values() for n in one.weights))

    @property
    def needs_no_student(self) -> bool:
        """Whether one network answers, and nothing better could teach another."""
        return len(self.members) == 1 and self.teacher == self.ensemble

    @property
    def teachable(self) -> list[str]:
        """The tasks whose answers a student can learn: numbers, and choices among classes."""
        own = {name: task for name, task in self.tasks.items() if task.prompt is None}
        return [name for name, task in own.items() if task.output_space() is not None]


def select_models(search: SearchContext, progress: Mapping[str, Progress]) -> Selected:
    """Select who answers each task, and make one model of them."""
    plan, folder = search.plan, search.folder
    data = data_of(search)
    tasks = {name: as_task(task) for name, task in data.tasks.items()}
    folders = {
        name: trial_files(folder, name).path
        for name, own in progress.items()
        if own.status == "finished" and plan.trials[name].kind != STUDENT
    }
    valid = read_answers(folders, "valid", plan.tasks)
    test = read_answers(folders, "test", plan.tasks)
    limits = Limits(search.want.config)
    costs = {name: cost_of(path, data) for name, path in folders.items()} if limits.any else {}
    say(search.console, f"selecting among {count(len(folders), 'model')}")
    selections = select_within(limits, costs, tasks, valid, plan.seed)
    taught = {task: dict(one.weights) for task, one in selections.items()}
    ensemble = teacher = make_ensemble(search, taught, folders, ENSEMBLE)
    if limits.any and search.want.config["distil"] is not False:
        free = {t: select(tasks[t], own.outputs, own.target, plan.seed) for t, own in valid.items()}
        taught = {task: dict(one.weights) for task, one in free.items()}
        teacher = make_ensemble(search, taught, folders, TEACHER)
    return Selected(
        data, tasks, folders, valid, test, selections, ensemble, [], costs, taught, teacher
    )


def conclude(
    search: SearchContext,
    progress: Mapping[str, Progress],
    selected: Selected,
    student: Path | None,
) -> Outcome:
    """Choose between the ensemble and its student, and keep that as the model.

    Args:
        student: run folder of a network that learnt from the ensemble, None if there is none.
    """
    candidates = [candidate_of(selected)]
    if student is not None:
        candidates.append(student_candidate(student, selected))
    limits, notes = Limits(search.want.config), list(selected.notes)
    chosen = limits.best(candidates)
    if chosen.name == ENSEMBLE and wants_calibration(search.recipe):
        notes += calibrate_model(search, RunFolder(chosen.folder).checkpoints / BEST)
    if not limits.met(chosen):
        notes.append(f"no model meets {limits.words()}; this is the nearest one")
    splits = {"valid": selected.valid, "test": selected.test}
    scored = {
        split: {task: own.scores(selected.tasks[task]) for task, own in answers.items()}
        for split, answers in splits.items()
    }
    return Outcome(
        scores={
            name: {
                split: {task: own[name] for task, own in every.items() if name in own}
                for split, every in scored.items()
            }
            for name in selected.folders
        },
        seconds={name: own.seconds for name, own in progress.items()},
        parameters={name: parameters_of(path) for name, path in selected.folders.items()},
        selections=selected.selections,
        candidates=candidates,
        chosen=chosen,
        gains=gains_of(chosen, selected),
        notes=notes,
        model=keep_as_model(search.folder, chosen),
    )


def data_of(search: SearchContext) -> MixedDataModule:
    """Return the data of all tasks."""
    allow = search.want.config["allow_targets"]
    found = build_datamodule({**search.recipe, "allow_targets": allow})
    found.setup()
    return found


def cost_of(folder: Path, data: MixedDataModule) -> tuple[int, float]:
    """Return a model's weights, and the milliseconds that it needs for a row."""
    return parameters_of(folder), latency_ms(RunFolder(folder).checkpoints / BEST, data)


def parameters_of(folder: Path) -> int:
    return int(RunFolder(folder).read_summary().get("parameters", {}).get("total", 0))


class Limits:
    """What the model may cost.

    Args:
        config: with ``max_parameters`` and ``max_latency_ms``, each a number or None.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.parameters: int | None = config["max_parameters"]
        self.latency: float | None = config["max_latency_ms"]

    @property
    def any(self) -> bool:
        return self.parameters is not None or self.latency is not None

    def words(self) -> str:
        """Return them as on the command line."""
        known = {"max_parameters": self.parameters, "max_latency_ms": self.latency}
        return " and ".join(f"{key}={value}" for key, value in known.items() if value is not None)

    def excess(self, parameters: float, latency: float) -> float:
        """Return by which factor a model is above its limits, 1 or less where it meets them."""
        found = [0.0]
        if self.parameters is not None:
            found.append(parameters / self.parameters)
        if self.latency is not None:
            found.append(latency / self.latency)
        return max(found)

    def met(self, one: Candidate) -> bool:
        return self.excess(one.parameters, one.latency) <= 1

    def together(
        self, costs: Mapping[str, tuple[int, float]], taken: Sequence[str]
    ) -> Callable[[Sequence[str]], bool]:
        """Return what says whether models may answer beside those that answer other tasks.

        Args:
            costs: {model: its weights, its milliseconds}; taken: what answers other tasks.
        """
        if not self.any:
            return lambda _: True

        def allowed(models: Sequence[str]) -> bool:
            every = dict.fromkeys([*taken, *models])
            parameters = sum(costs[name][0] for name in every)
            return self.excess(parameters, sum(costs[name][1] for name in every)) <= 1

        return allowed

    def best(self, candidates: Sequence[Candidate]) -> Candidate:
        """Return the best one that meets the limits, else the nearest."""
        meeting = [one for one in candidates if self.met(one)]
        if meeting:
            return max(meeting, key=Candidate.mean)
        return min(candidates, key=lambda one: self.excess(one.parameters, one.latency))


def select_within(
    limits: Limits,
    costs: Mapping[str, tuple[int, float]],
    tasks: Mapping[str, Task],
    valid: Mapping[str, Answers],
    seed: int,
) -> dict[str, Selection]:
    """Return who answers each task, within limits that all together keep.

    What answers one task leaves less for the next. So with limits, it is also tried to keep a place
    for one of the best models of all tasks, which can then answer what others can't; the best mean
    counts. Where nothing keeps the limits, those answer that are least above them.
    """
    every = [name for name in costs if all(name in own.outputs for own in valid.values())]
    fitting = [name for name in every if limits.excess(*costs[name]) <= 1]
    scored = {task: own.scores(tasks[task]) for task, own in valid.items()} if fitting else {}
    fitting.sort(key=lambda name: -fmean(own[name] for own in scored.values()))
    tried = []
    for kept in ([], *([name] for name in fitting[:PLACES])):
        taken, found = list(kept), {}
        for task, own in valid.items():
            allowed = limits.together(costs, taken)
            if not any(allowed([name]) for name in own.outputs):
                break
            found[task] = select(tasks[task], own.outputs, own.target, seed, allowed)
            taken = list(dict.fromkeys([*taken, *found[task].weights]))
        else:
            tried.append(found)
    if tried:
        return max(tried, key=lambda found: fmean(one.score for one in found.values()))
    answering = nearest(limits, costs, valid, every)
    return {
        task: select(tasks[task], {answering[task]: own.outputs[answering[task]]}, own.target)
        for task, own in valid.items()
    }


def nearest(
    limits: Limits,
    costs: Mapping[str, tuple[int, float]],
    valid: Mapping[str, Answers],
    every: Sequence[str],
) -> dict[str, str]:
    """Return {task: the model that answers it} of those that are least above the limits.

    Args:
        every: models of all tasks, one of which may answer them; else each task has its own.
    """

    def excess(answering: Mapping[str, str]) -> float:
        own = [costs[name] for name in set(answering.values())]
        return limits.excess(sum(one[0] for one in own), sum(one[1] for one in own))

    cheapest = {
        task: min(own.outputs, key=lambda name: limits.excess(*costs[name]))
        for task, own in valid.items()
    }
    return min([*(dict.fromkeys(valid, name) for name in every), cheapest], key=excess)


def make_ensemble(
    search: SearchContext,
    weights: Mapping[str, Mapping[str, float]],
    folders: Mapping[str, Path],
    where: str,
) -> Path:
    """Make one model of all that were selected; return its run folder, that of one its own.

    Args:
        search: in whose folder it is made, if it isn't there.
        weights: {task: {model: share}}; folders: {model: run folder}; where: name of its folder.
    """
    from pipeline import merge

    target = search.folder / where
    names = list(dict.fromkeys(name for own in weights.values() for name in own))
    if len(names) == 1:
        return folders[names[0]]
    marker = target / "selection.json"
    wanted = {"weights": weights}
    made = RunFolder(target).read_summary().get("status") == "finished"
    if made and marker.is_file() and read_json(marker) == wanted:
        return target
    words = [
        override("models", {name: str(folders[name]) for name in names}),
        override("output", target),
        "method=ensemble",
        override("method.weights", weights),
        "overwrite=true",
        "tracking=none",
        override("name", f"{search.plan.name}-{where}"),
    ]
    merge.call(words, config_dirs=search.plan.config_dirs, quiet=True)
    write_json(marker, wanted)
    return target


def candidate_of(selected: Selected) -> Candidate:
    """Return the ensemble, with the scores of its members' answers."""
    scored = {
        split: {
            task: Judge(selected.tasks[task], own.target)(answer_of(selected, task, own))[0]
            for task, own in answers.items()
        }
        for split, answers in (("valid", selected.valid), ("test", selected.test))
    }
    checkpoint = RunFolder(selected.ensemble).checkpoints / BEST
    weights = read_checkpoint(checkpoint)["state_dict"]
    return Candidate(
        ENSEMBLE,
        selected.ensemble,
        scored["valid"],
        scored["test"],
        sum(value.numel() for value in weights.values()),
        latency_ms(checkpoint, selected.data),
    )


def answer_of(selected: Selected, task: str, answers: Answers) -> Tensor:
    """Return what the ensemble answers: (N, ...)."""
    weights = selected.selections[task].weights
    return together(selected.tasks[task], answers.outputs, weights)


def calibrate_model(search: SearchContext, checkpoint: Path) -> list[str]:
    """Calibrate a model that no run did, unless that was done; return why it can't be."""
    if read_spec(checkpoint).get(TRUST):
        return []
    allow = search.want.config["allow_targets"]
    try:
        calibrate_checkpoint(checkpoint, checkpoint, None, CALIBRATED_ROWS, allow, search.console)
    except PollinateError as error:
        return [str(error)]
    return []


def student_candidate(folder: Path, selected: Selected) -> Candidate:
    """Return a network that was trained, with its own scores."""
    summary = RunFolder(folder).read_summary()
    scored = {
        split: {
            task: known[own.score]
            for task, own in selected.tasks.items()
            if own.score in (known := summary.get(split, {}).get(task, {}))
        }
        for split in ("valid", "test")
    }
    return Candidate(
        STUDENT, folder, scored["valid"], scored["test"], *cost_of(folder, selected.data)
    )


def keep_as_model(folder: Path, chosen: Candidate) -> Path:
    """Leave the chosen model in the search's ``model``, a run folder as any other."""
    target, source = RunFolder(model_folder(folder)), RunFolder(chosen.folder)
    target.create()
    if not same_file(source.checkpoints / BEST, target.checkpoints / BEST):
        for file in target.path.glob("evaluation-*.json"):  # of another model
            file.unlink()
    for file in (source.config, source.summary, source.checkpoints / BEST):
        if file.is_file():
            place = target.path / file.relative_to(source.path)
            temporary = place.with_name(f"{place.name}.new")
            shutil.copyfile(file, temporary)
            temporary.replace(place)
    if not (target.checkpoints / BEST).is_file():
        raise PollinateError(f"{source.checkpoints} has no best.ckpt, so there is no model to keep")
    return target.path


def same_file(one: Path, other: Path) -> bool:
    there = one.is_file() and other.is_file()
    return there and checkpoint_fingerprint([one]) == checkpoint_fingerprint([other])


def gains_of(chosen: Candidate, selected: Selected) -> dict[str, dict[str, Gain]]:
    """Return {task: {who it is compared with: what the model gains}} on test rows."""
    tasks = selected.tasks
    own = (
        read_answers({STUDENT: chosen.folder}, "test", list(tasks))
        if chosen.name == STUDENT
        else {}
    )
    found: dict[str, dict[str, Gain]] = {}
    for task, answers in selected.test.items():
        mine = own[task].outputs[STUDENT] if own else answer_of(selected, task, answers)
        rivals = {"alone": alone(task), "joint": JOINT, "linear": LINEAR}
        found[task] = {
            word: gain(tasks[task], mine, answers.outputs[rival], answers.target)
            for word, rival in rivals.items()
            if rival in answers.outputs
        }
    return found
