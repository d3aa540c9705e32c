"""Find the best model for all tasks in the time there is, with the evidence.

Takes what pipeline.fit takes, as where to begin. The same command, or resume=FOLDER, goes on; more
time_limit goes on with a search that is complete.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.command import CommandArguments, entry_points, given_keys, silence_libraries

if TYPE_CHECKING:  # they import numpy and more
    from pipeline.searching.search_run import SearchResult


def run(config: Mapping[str, Any], arguments: CommandArguments) -> SearchResult:
    """Plan, run what there is time for, select, report."""
    started = time.perf_counter()
    # imported here: torch takes seconds, and a wrong config doesn't need it
    from pipeline.crash_report import crash_evidence
    from pipeline.engines.process import ProcessLock
    from pipeline.fit import with_absolute_uri, with_one_limit
    from pipeline.searching.request import LEADER, search_request
    from pollinate.requirements import require

    require("optuna", "study")
    want = search_request(config, arguments)
    want.config = with_absolute_uri(with_one_limit(want.config, given_keys(want.overrides)))
    leader = ProcessLock(want.folder / LEADER)
    try:
        with crash_evidence(want.config, want.folder, wanted=lambda: leader.is_held):
            from pipeline.searching.search_run import start

            silence_libraries()
            return start(want, leader, started)
    finally:
        leader.release()


call, main = entry_points("search", run)

if __name__ == "__main__":
    sys.exit(main())
