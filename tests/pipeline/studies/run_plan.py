"""``python -m tests.pipeline.studies.run_plan FOLDER JOBS ENGINE``: run a kept plan, to be killed.

ENGINE: as JSON, a class and its options.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pipeline.engines.local import LocalEngine
from pipeline.studies.plan import load_plan
from pipeline.studies.scheduler import Limits, Scheduler
from pollinate.instantiate import instantiate
from tests.pipeline.studies.plans import Silent, jobs_of


def main() -> None:
    """Run until all is over."""
    folder, jobs = Path(sys.argv[1]), int(sys.argv[2])
    plan = load_plan(folder)
    assert plan is not None
    limits = Limits(jobs, 0, None, folder)
    engine = instantiate(json.loads(sys.argv[3]), (), "engine")
    works = jobs_of(plan, folder, carried=not isinstance(engine, LocalEngine))
    engine.open(folder)
    Scheduler(works, engine, limits, Silent(), lambda: False).run()
    engine.close()


if __name__ == "__main__":
    main()
