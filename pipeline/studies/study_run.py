"""A study from its plan to its report."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from pipeline.command import CommandResult
from pipeline.crash_report import is_crash, keep_evidence
from pipeline.engines.engine import Engine
from pipeline.studies.analysis.analyze import analyze
from pipeline.studies.analysis.estimates import StudyAnalysis
from pipeline.studies.console import StudyProgress, print_answers, print_plan
from pipeline.studies.jobs import FitJob, Job, JobContext
from pipeline.studies.mlflow_run import StudyTracker, study_metrics
from pipeline.studies.plan import StudyPlan, study_resume_command
from pipeline.studies.predictors import rank_job
from pipeline.studies.prepare import StudyRequest
from pipeline.studies.report.verdict import verdict
from pipeline.studies.report.write import write_report
from pipeline.studies.results import StudyResults
from pipeline.studies.scheduler import Limits, ScheduledJob, Scheduler, remaining_seconds
from pipeline.studies.search import searches_of
from pipeline.studies.trials import TrialJob, collect, trials_of
from pipeline.terminal import say
from pipeline.text_format import count, relpath, verb
from pipeline.tracking.addresses import sync_command
from pipeline.tracking.redact import redact_arguments
from pollinate.errors import PollinateError
from pollinate.interrupt import SIGNAL_EXIT_CODES, StopRequest
from pollinate.overrides import override

STOPPING = (
    "\nstopping: the runs under way are asked to save, which takes a step, or what is left of a "
    "validation; Ctrl-C again stops at once\n"
)


@dataclass(kw_only=True)
class StudyResult(CommandResult):
    """folder: of the study; results, analysis: None of one that wasn't run to its end.

    report: the page, or the folder if there is none; None as for results.
    """

    folder: Path
    results: StudyResults | None = None
    analysis: StudyAnalysis | None = None
    report: Path | None = None


class StudyRun:
    """Runs what is left of a study, and reports."""

    def __init__(self, plan: StudyPlan, want: StudyRequest, console: Console) -> None:
        self.plan = plan
        self.want = want
        self.console = console
        self.context = JobContext(want.folder, want.config["launcher"], plan.config_dirs)
        self.trials = list(trials_of(plan, self.context))
        searches = list(searches_of(plan, self.context))
        ranking = rank_job(plan, self.context)
        last = [] if ranking is None else [ranking]
        self.others: list[Job] = [*searches, *last]
        self.jobs: list[Job] = [*searches, *self.trials, *last]

    def show_plan(self) -> None:
        others = sum(not job.is_finished() for job in self.others)
        left = [ScheduledJob(job) for job in self.jobs if not job.is_finished()]
        seconds = remaining_seconds(left, self.want.config["jobs"])
        print_plan(self.console, self.plan, self.trials, others, seconds)

    def show_commands(self) -> None:
        for job in self.jobs:
            if isinstance(job, TrialJob) and not job.is_finished():
                say(self.console, shlex.join(job.shown()))
            elif not isinstance(job, FitJob) and not job.is_finished():
                say(self.console, shlex.join(redact_arguments(job.command())))

    def run(self, engine: Engine) -> StudyResult:
        own = StudyTracker(self.want.config, self.want.folder)
        stop = StopRequest(STOPPING)
        stop.install()
        status = "failed"
        try:
            if not all(job.is_finished() for job in self.jobs):
                engine.open(self.want.folder)
                own.await_id()
                self.context.parent = lambda: own.tracker.run_id
            whole = self._schedule(engine, lambda: stop.signal_name is not None)
            if not whole:
                status = "interrupted"
                return self._interrupted(str(stop.signal_name))
            found = self._report(own)
            status = "finished"
            return found
        except Exception as error:
            if is_crash(error, begun=True):
                keep_evidence(error, self.want.config, self.want.folder, tracker=own.tracker)
            raise
        finally:
            stop.restore()
            engine.close()
            own.close(status)

    def _schedule(self, engine: Engine, stopping: Callable[[], bool]) -> bool:
        """Run all jobs; False if the user stopped them."""
        config = self.want.config
        limits = Limits(
            config["jobs"],
            config["retries"],
            None if config["timeout"] is None else 60 * config["timeout"],
            self.want.cwd,
        )
        with StudyProgress(self.console, config["jobs"]) as progress:
            return Scheduler(self.jobs, engine, limits, progress, stopping).run()

    def _interrupted(self, signal_name: str) -> StudyResult:
        command = study_resume_command(self.want.folder, self.want.own)
        say(
            self.console,
            f"\nstopped by {signal_name}; everything is saved. Go on with\n  {command}",
        )
        code = SIGNAL_EXIT_CODES.get(signal_name, 1)
        return StudyResult(exit_code=code, interrupted=signal_name, folder=self.want.folder)

    def _report(self, own: StudyTracker) -> StudyResult:
        results = collect(self.want.folder, self.want.config["launcher"])
        failed = [trial for trial in results.trials if trial.status != "finished"]
        if len(failed) == len(results.trials):
            raise PollinateError(
                f"all {len(failed)} trials have failed, the first one so: {failed[0].message}"
            )
        answers = analyze(results)
        print_answers(self.console, results, answers)
        for line in verdict(results, answers):
            say(self.console, line)
        report = self._write(results, answers, own)
        if failed:
            say(self.console, self._without_result(len(failed)))
        return StudyResult(
            exit_code=1 if failed else 0,
            folder=self.want.folder,
            results=results,
            analysis=answers,
            report=report,
        )

    def _without_result(self, failed: int) -> str:
        told = f"{count(failed, 'trial')} {verb(failed, 'has')} no result"
        if all(trial.is_finished() for trial in self.trials):
            return told
        them = "it" if failed == 1 else "them"
        return (
            f"{told}; to try {them} again: {study_resume_command(self.want.folder, self.want.own)}"
        )

    def _write(self, results: StudyResults, answers: StudyAnalysis, own: StudyTracker) -> Path:
        problems: list[str] = []
        files = write_report(results, answers, self.want.folder, problems)
        for line in problems:
            say(self.console, f"warning: {line}")
        own.answered(dict(study_metrics(results, answers)), files)
        if not own.adopt([job.files.path for job in self.jobs if isinstance(job, FitJob)]):
            say(
                self.console,
                "MLflow lacks a part of some trials yet; once the server is "
                f"back: {sync_command(own.uri, override('runs', self.want.folder))}",
            )
        page = next((file for file in files if file.suffix == ".html"), self.want.folder)
        say(self.console, f"report {relpath(page.absolute())}")
        return page.absolute()
