"""One row for each option of each group of methods.

A new method is a file, a YAML and a row in its group's file here. ``test_every_config.py`` compares
rows with YAML files; the group's own test says what ``given`` and ``expected`` are, by a test named
``test_row``.
"""

from __future__ import annotations

from tests.rows.augmentations import AUGMENTATIONS
from tests.rows.balancers import BALANCERS
from tests.rows.encoders import ENCODERS
from tests.rows.fusions import FUSIONS
from tests.rows.mergings import MERGINGS
from tests.rows.optimizers import OPTIMIZERS
from tests.rows.row import Row
from tests.rows.samplers import SAMPLERS
from tests.rows.schedules import SCHEDULES
from tests.rows.scores import SCORES
from tests.rows.sources import SOURCES
from tests.rows.tasks import TASKS
from tests.rows.transfers import TRANSFERS
from tests.rows.trunks import TRUNKS
from tests.rows.tunings import TUNINGS

ROWS = (
    *BALANCERS,
    *SAMPLERS,
    *SCHEDULES,
    *OPTIMIZERS,
    *TRUNKS,
    *ENCODERS,
    *TUNINGS,
    *TASKS,
    *FUSIONS,
    *AUGMENTATIONS,
    *MERGINGS,
    *TRANSFERS,
    *SOURCES,
    *SCORES,
)


def rows(group: str) -> list[Row]:
    """The rows of a group, and of groups below it."""
    return [row for row in ROWS if row.group == group or row.group.startswith(f"{group}/")]
