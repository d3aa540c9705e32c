"""What could have told the gains before: scores of pipeline.rank_sources, of tasks and models."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.studies.jobs import Job, JobContext
from pipeline.studies.overrides import combined
from pipeline.studies.plan import StudyPlan, trial_files
from pipeline.studies.trial_files import TrialFiles, read_json
from pollinate.overrides import overrides_of

FOLDER = "predictors"
RANKING = "ranking.json"
TASK = "task:"  # begins the name of a task as a source
RUN_PARTS = {"tag": "affinity", "gradient_cosine": "cosine"}  # of the short run's seconds
PredictorScores = dict[str, dict[str, dict[str, float]]]  # {score: {target: {source: value}}}


@dataclass(kw_only=True)
class RankJob(Job):
    """Scores each task as a source of each other: as a task, and by its single-task model.

    base: overrides of every trial; tasks: of the data; models: {task: its run}; scores: names.
    """

    base: Sequence[str] = ()
    tasks: Sequence[str] = ()
    models: Mapping[str, TrialFiles] = field(default_factory=dict)
    scores: Sequence[str] = ()
    seed: int = 0

    def is_finished(self) -> bool:
        return (self.files.path / RANKING).is_file()

    def prepare(self) -> None:
        shutil.rmtree(self.files.path, ignore_errors=True)

    def arguments(self) -> list[str]:
        own = overrides_of(
            tasks=list(self.tasks),
            seed=self.seed,
            tracking="none",
            name=FOLDER,
            sources=[files.path for files in self.models.values()],
            scores=list(self.scores),
            run_dir=self.files.path,
        )
        base = [text for text in self.base if not text.startswith("tracking")]
        return ["pipeline.rank_sources", *self.config_dirs, *combined(base, own)]


def rank_job(plan: StudyPlan, context: JobContext) -> RankJob | None:
    if not plan.predictors:
        return None
    seed = plan.seeds[0]
    models = {
        task: trial_files(context.folder, f"single_task:{task}", seed)
        for task in plan.facts.tasks
        if f"single_task:{task}" in plan.arms
    }
    return RankJob(
        title="predictors",
        files=TrialFiles(context.folder / FOLDER / "ranking"),
        context=context,
        needs=list(models.values()),
        base=plan.base,
        tasks=list(plan.facts.tasks),
        models=models,
        scores=plan.predictors,
        seed=seed,
    )


def read_predictors(folder: Path, plan: StudyPlan) -> tuple[PredictorScores, dict[str, float]]:
    """Return the scores and the seconds that each took; empty before they are there."""
    found = read_json(folder / FOLDER / "ranking" / RANKING)
    if found is None:
        return {}, {}
    tasks = {f"single_task-{task}": task for task in plan.facts.tasks}
    scores: PredictorScores = {}
    seconds: dict[str, float] = {}
    modelled: set[str] = set()
    for target, ranking in found["tasks"].items():
        for name, outcomes in ranking["sources"].items():
            source = source_task(name, tasks)
            for score, outcome in outcomes.items():
                seconds[score] = seconds.get(score, 0.0) + outcome["seconds"]
                if outcome["value"] is None or source in (None, target):
                    continue
                scores.setdefault(score, {}).setdefault(target, {})[str(source)] = outcome["value"]
                if not name.startswith(TASK) and outcome["rows"]:
                    modelled.add(score)
    own = found["seconds"]
    for score in modelled:
        seconds[score] += sum(own["features"].values())
    for score, part in RUN_PARTS.items():
        if score in seconds:
            run = own["short_run"]
            seconds[score] += run.get("run", 0.0) + run.get(part, 0.0)
    return scores, seconds


def source_task(name: str, tasks: Mapping[str, str]) -> str | None:
    """Return the task that a source stands for, None if it is none of the study's."""
    if name.startswith(TASK):
        return name.removeprefix(TASK)
    return tasks.get(Path(name).parent.name)
