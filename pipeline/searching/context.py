"""What the parts of a search know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.searching.clock import Clock
from pipeline.searching.plan import SearchPlan
from pipeline.studies.prepare import StudyRequest


@dataclass(frozen=True)
class SearchContext:
    """plan, folder: of the search; want: what the command line asks for.

    recipe: the configuration of the run of all tasks.
    console: where it speaks; clock: counts its time.
    """

    plan: SearchPlan
    want: StudyRequest
    folder: Path
    recipe: Mapping[str, Any]
    console: Console
    clock: Clock
