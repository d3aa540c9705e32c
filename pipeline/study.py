"""Say whether sharing helped each task: single-task and multi-task runs over seeds, compared.

Takes what pipeline.fit takes, for every run. The same command, or resume=FOLDER, goes on with what
is left; a study that is complete is reported anew.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.command import given_keys, parse_arguments, run_command

LEADER = ".leader.lock"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    return run_command("study", lambda config, _: run(config, words), words)


def run(config: Mapping[str, Any], argv: Sequence[str]) -> int:
    """Plan, run what is left, report.

    Args:
        config: the composed configuration.
        argv: the command line, of which trials take a part.
    """
    started = time.perf_counter()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch reads it when it is imported
    # imported here: torch takes seconds, and a wrong config doesn't need it
    from pipeline.fit import with_absolute_uri, with_one_limit
    from pipeline.studies.prepare import (
        await_plan,
        check_arms,
        check_launcher,
        find_plan,
        make_plan,
        save_plan,
        study_request,
    )
    from pipeline.studies.process import ProcessLock

    want = study_request(config, parse_arguments(argv))
    want.config = with_absolute_uri(with_one_limit(want.config, given_keys(want.overrides)))
    plan = find_plan(want)
    base = check_arms(want) if plan is None else plan.base
    from rich.console import Console

    from pipeline.command import silence_libraries
    from pipeline.studies.study_run import StudyRun

    silence_libraries()
    dry = want.config["dry_run"]
    if not dry:
        check_launcher(want.config["launcher"])
    leader = ProcessLock(want.folder / LEADER)
    if plan is None and (dry or leader.acquire()):
        plan = make_plan(want, base, started, timed=not dry)
    if plan is None:
        plan = await_plan(want)
    if not dry:
        save_plan(plan, want)
    study_run = StudyRun(plan, want, Console(), leader)
    study_run.show_plan()
    if dry:
        study_run.show_commands()
        return 0
    return study_run.run()


if __name__ == "__main__":
    sys.exit(main())
