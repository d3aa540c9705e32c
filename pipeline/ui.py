"""Open MLflow on the runs.

MLflow's own defaults take 12 s and 3 GB; one worker without job execution takes 5 s and 0.5 GB.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from pipeline.command import CommandArguments, entry_points
from pollinate.errors import PollinateError, UsageError
from pollinate.program import shell_command

HOST = "127.0.0.1"  # the pages have no password: never listen to the network


def ui_command(uri: str, port: int) -> list[str]:
    """Give the server's command line.

    Args:
        uri: of an sqlite database or another one that MLflow opens directly.
        port: on this machine, 1 to 65535.
    """
    from pipeline.tracking.mlflow_settings import (
        artifact_location,
        mlflow_uri,
        resolve_uri,
        sqlite_path,
    )

    uri = resolve_uri(uri)
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        raise PollinateError(f"no database at {path}; run {shell_command('fit')} first, or set uri")
    if uri.startswith("http"):
        raise UsageError(f"uri must be a database, got a server; open {uri} in a browser")
    _require_free(port)
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", mlflow_uri(uri)]
    location = artifact_location(uri)
    return command if location is None else [*command, "--default-artifact-root", location]


def _require_free(port: int) -> None:
    if not 1 <= port <= 65535:
        raise UsageError(f"port must be in 1..65535, got {port}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise PollinateError(f"port {port} is taken; try port={port + 1}") from error


def run(config: Mapping[str, Any], _: CommandArguments) -> NoReturn:
    """Become the server: every signal, Ctrl-C too, then ends it and nothing is left behind."""
    port = config["port"]
    command = ui_command(config["uri"], port)
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    sys.stdout.write(f"MLflow at http://{HOST}:{port}  (ready in a few seconds; Ctrl-C ends it)\n")
    sys.stdout.flush()
    os.execve(command[0], command, {**settings, **os.environ})


_, main = entry_points("ui", run)

if __name__ == "__main__":
    sys.exit(main())
