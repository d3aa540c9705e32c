"""``python -m tests.pipeline.studies.run_plan FOLDER JOBS``: run a kept plan, to be killed."""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.engines.local import LocalEngine
from pipeline.studies.plan import load_plan
from pipeline.studies.scheduler import Limits, Scheduler
from tests.pipeline.studies.plans import Silent, jobs_of


def main() -> None:
    """Run until all is over."""
    folder, jobs = Path(sys.argv[1]), int(sys.argv[2])
    plan = load_plan(folder)
    assert plan is not None
    limits = Limits(jobs, 0, None, folder)
    Scheduler(jobs_of(plan, folder), LocalEngine(), limits, Silent(), lambda: False).run()


if __name__ == "__main__":
    main()
