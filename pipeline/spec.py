"""What a checkpoint says of its model: enough to build it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.checkpoints import read_checked
from pipeline.errors import PollinateError

FORMAT = 1  # of what a checkpoint holds under "pollinate"; raised when older code can't read it


def read_spec(checkpoint: Path) -> dict[str, Any]:
    """Return what a checkpoint says of its model.

    Raises:
        PollinateError: it was not made by this project, or by a later version.
    """
    spec = read_checked(checkpoint).get("pollinate")
    if not isinstance(spec, dict):
        raise PollinateError(f"{checkpoint} was not written by pipeline.fit: it has no 'pollinate'")
    if spec.get("format") != FORMAT:
        raise PollinateError(
            f"{checkpoint} has format {spec.get('format')}, this version reads {FORMAT}; "
            "use the version of pollinate that wrote it"
        )
    return spec
