"""Say whether sharing helped each task: single-task and multi-task runs over seeds, compared.

Takes what pipeline.fit takes, for every run. The same command, or resume=FOLDER, goes on with what
is left; a study that is complete is reported anew.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.command import CommandArguments, entry_points, given_keys

if TYPE_CHECKING:  # they import numpy and more
    from pipeline.engines.process import ProcessLock
    from pipeline.studies.prepare import StudyRequest
    from pipeline.studies.study_run import StudyResult

LEADER = ".leader.lock"


def run(config: Mapping[str, Any], arguments: CommandArguments) -> StudyResult:
    """Plan, run what is left, report."""
    started = time.perf_counter()
    # imported here: torch takes seconds, and a wrong config doesn't need it
    from pipeline.crash_report import crash_evidence
    from pipeline.engines.process import ProcessLock
    from pipeline.fit import with_absolute_uri, with_one_limit
    from pipeline.studies.prepare import study_request

    want = study_request(config, arguments)
    want.config = with_absolute_uri(with_one_limit(want.config, given_keys(want.overrides)))
    leader = ProcessLock(want.folder / LEADER)
    try:
        # a process that the study's folder is refused to leaves nothing there
        with crash_evidence(want.config, want.folder, wanted=lambda: leader.is_held):
            return _run(want, leader, started)
    finally:
        leader.release()


def _run(want: StudyRequest, leader: ProcessLock, started: float) -> StudyResult:
    from pipeline.studies.prepare import (
        check_arms,
        check_launcher,
        find_plan,
        lead,
        make_engine,
        make_plan,
        save_plan,
    )

    plan = find_plan(want)
    if plan is None:
        check_arms(want)

    from pipeline.command import silence_libraries
    from pipeline.studies.study_run import StudyResult, StudyRun
    from pollinate.console import new_console

    silence_libraries()
    console = new_console()
    dry = want.config["dry_run"]
    if not dry:
        check_launcher(want.config["launcher"])
        engine = make_engine(want.config)
        lead("study", want.folder, leader)
        plan = find_plan(want)  # another one may have made it since
    if plan is None:
        plan = make_plan(want, console, started, timed=not dry)
    if not dry:
        save_plan(plan, want)
    study_run = StudyRun(plan, want, console)
    study_run.show_plan()
    if dry:
        study_run.show_commands()
        return StudyResult(folder=want.folder)
    return study_run.run(engine)


call, main = entry_points("study", run)

if __name__ == "__main__":
    sys.exit(main())
