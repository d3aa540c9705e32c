"""Senders of runs' histories: three seconds of imports, and a tenth of one of work."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.forks import Fork, Forks

ROOT = Path(__file__).parents[1]
# uses a database, as a sender does
WARM_UP = """
import shutil, sys, tempfile
from pathlib import Path
import pipeline.tracking.worker
from pipeline.tracking.mlflow_server import MlflowServer
from pipeline.tracking.sender import SendCursor, SenderSettings

with tempfile.TemporaryDirectory() as folder:
    uri = f"sqlite:///{shutil.copy(sys.argv[1], folder)}"
    settings = SenderSettings(uri, "warm", folder, "warm", "key", "me", 0)
    MlflowServer(settings).open_run(SendCursor(Path(folder, "cursor.json"), uri, "warm"))
"""


class WarmSenders(Forks):
    """Stands in for the module ``subprocess`` where a run starts its sender.

    Args:
        database: an empty one of MLflow's, which is copied.
    """

    PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL

    def __init__(self, database: Path) -> None:
        environment = {"PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"}
        super().__init__(WARM_UP, environment, str(database))

    def Popen(self, command: Sequence[str], *, env: Mapping[str, str], **_: Any) -> Fork:  # noqa: N802  # subprocess' own
        """Fork instead of starting an interpreter."""
        assert list(command[-2:]) == ["-m", "pipeline.tracking.worker"]
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        no_errors = os.open(os.devnull, os.O_WRONLY)
        files = [theirs_in, theirs_out, no_errors]
        code = "import pipeline.tracking.worker as worker; worker.main()"
        fork: Any = self.start(code, files=files, environment=env)
        for number in files:
            os.close(number)
        fork.stdin, fork.stdout = os.fdopen(ours_in, "w"), os.fdopen(ours_out)
        return fork  # type: ignore[no-any-return]  # Popen has the pipes, too
