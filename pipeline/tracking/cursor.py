"""What the sender remembers between two of its lives: tracking.json in the run folder."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

FILE = "tracking.json"


@dataclass
class Cursor:
    """The MLflow run of a run folder, and how far each journal has been sent.

    Losing it costs time, not truth: the run is found again by its key, and points that
    arrive a second time are the same points.

    Attributes:
        uri: address without user and password.
        run_id: None before the server's first answer.
        offsets: journal's file name -> bytes sent.
        models: key of a model's registration -> id of the logged model.
    """

    path: Path
    uri: str
    experiment: str
    run_id: str | None = None
    offsets: dict[str, int] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)

    def save(self) -> None:
        """Write the file, whole or not at all."""
        content = {key: value for key, value in asdict(self).items() if key != "path"}
        new = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        new.write_text(json.dumps(content, indent=1))
        new.replace(self.path)

    def restart(self) -> None:
        """Forget the run: the next one gets everything from the beginning."""
        self.run_id, self.offsets, self.models = None, {}, {}


def load_cursor(run_dir: Path, uri: str, experiment: str) -> Cursor:
    """Read a run folder's cursor; a new one if it has none or speaks of another server."""
    new = Cursor(run_dir / FILE, uri, experiment)
    try:
        old = Cursor(path=new.path, **json.loads(new.path.read_text()))
    except (OSError, ValueError, TypeError):  # none yet, or torn by a full disk: start again
        return new
    return old if (old.uri, old.experiment) == (uri, experiment) else new


def sent_bytes(run_dir: Path) -> dict[str, int]:
    """Return {journal's file name: bytes that a server has}; empty if none has answered yet."""
    try:
        found: dict[str, int] = json.loads((run_dir / FILE).read_text())["offsets"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found


def stored_run_id(run_dir: Path) -> str | None:
    """Give the MLflow run id of a run folder; None if no server has answered yet."""
    try:
        run_id = json.loads((run_dir / FILE).read_text())["run_id"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if run_id is None else str(run_id)
