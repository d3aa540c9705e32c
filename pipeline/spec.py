"""What a checkpoint says of its model: enough to build it again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.checkpoints import read_checked
from pipeline.errors import PollinateError

FORMAT = 1  # of what a checkpoint holds under "pollinate"; raised when older code can't read it
MERGED = "merged"  # key that says of which models one was made


def read_spec(checkpoint: Path) -> dict[str, Any]:
    """Return what a checkpoint says of its model.

    Raises:
        PollinateError: it was not made by this project, or by a later version.
    """
    return spec_in(read_checked(checkpoint), checkpoint)


def spec_in(content: Mapping[str, Any], checkpoint: Path) -> dict[str, Any]:
    """Return what the content of a checkpoint says of its model; see ``read_spec``."""
    spec = content.get("pollinate")
    if not isinstance(spec, dict):
        raise PollinateError(f"{checkpoint} was not written by pipeline.fit: it has no 'pollinate'")
    if spec.get("format") != FORMAT:
        raise PollinateError(
            f"{checkpoint} has format {spec.get('format')}, this version reads {FORMAT}; "
            "use the version of pollinate that wrote it"
        )
    return spec


def require_training(spec: Mapping[str, Any], checkpoint: Path) -> None:
    """Check that a model knows how it was trained, which one that is served does not.

    Raises:
        PollinateError: it doesn't.
    """
    if "trainer" not in spec["config"]:
        raise PollinateError(
            f"{checkpoint} is a model as it is served: it predicts, and knows neither its data nor "
            "its training; give the run's folder, its checkpoints/best.ckpt, or its MLflow run id"
        )
