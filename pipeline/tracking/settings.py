"""What the sender must know about a run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

KEY_TAG = "pollinate.key"  # the run's own name, known before any server answers
RUN_DIR_TAG = "pollinate.run_dir"
PARENT_TAG = "mlflow.parentRunId"  # by it MLflow shows a run below another


@dataclass(frozen=True)
class Settings:
    """One run and its tracking server.

    Attributes:
        uri: address; sqlite with an absolute path.
        experiment: MLflow's experiment.
        run_dir: absolute path of the run folder.
        run_name: name on MLflow's pages.
        key: unique and the same after a resume; by it the run is found on the server.
        user: who started the run.
        start_ms: milliseconds since 1970.
    """

    uri: str
    experiment: str
    run_dir: str
    run_name: str
    key: str
    user: str
    start_ms: int

    def to_json(self) -> str:
        """One line for the sender's input."""
        return json.dumps(asdict(self))


def settings_from_json(text: str) -> Settings:
    """Read what ``to_json`` wrote."""
    return Settings(**json.loads(text))
