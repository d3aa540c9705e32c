"""Send a run's history that a tracking server missed.

Of use after the tracking server was down when a run ended. ``runs=PATH`` sends every run folder
below a folder; ``uri=ADDRESS`` sends to another server than the run's own. Sending something
twice does no harm.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.command import CommandArguments, CommandResult, entry_points
from pipeline.run_folder import LOCK, check_links
from pipeline.tracking.addresses import own_address, own_addresses, require_own_address
from pipeline.tracking.journals import has_ended, original_of, read_records
from pipeline.tracking.redact import HIDDEN, redact_text
from pipeline.tracking.sender import OPERATIONS, RunDeletedError, SenderSettings, record_crash
from pollinate.errors import PollinateError, UsageError
from pollinate.printable import printable


def sync(run_dir: Path, uri: str | None = None) -> str:
    """Send what the tracking server lacks of one run.

    Args:
        run_dir: the run folder.
        uri: address of the server; None: the one that the run was started with, if it is the
            default one or that of MLflow's own variable.

    Returns:
        The MLflow run's id.
    """
    from filelock import FileLock, Timeout

    original = original_of(run_dir, OPERATIONS)
    if original is not None:
        raise PollinateError(
            f"{run_dir} is a copy of {original}, whose run in MLflow it would write into; send "
            "that one, or resume the copy, which makes it a run of its own"
        )
    settings = read_settings(run_dir, uri)
    check_links(run_dir)
    try:
        with FileLock(run_dir / LOCK, timeout=1):
            return _send(settings)
    except Timeout as error:
        raise PollinateError(
            f"{run_dir} is being sent by its own run; wait until it ends"
        ) from error


def _send(settings: SenderSettings) -> str:
    from pipeline.tracking.worker import open_sender

    sender, server = open_sender(settings.to_json(), _report)
    try:
        record_crash(Path(settings.run_dir))
        sender.send()
        if not has_ended(Path(settings.run_dir, OPERATIONS)):
            # killed; as nobody else sends for it, it has ended
            server.set_status("KILLED", time.time_ns() // 1_000_000)
    except RunDeletedError as error:
        raise PollinateError(f"MLflow run {error} was deleted; restore it there first") from error
    except Exception as error:  # stores of artifacts raise types of their own
        reason = redact_text(str(error)) or type(error).__name__
        raise PollinateError(
            f"{redact_text(settings.uri)} does not take the run: {reason}"
        ) from error
    return str(sender.cursor.run_id)


def _report(event: str, **details: Any) -> None:
    if event == "refused":
        said = f"MLflow does not take {details['what']}: {details['error']}\n"
        sys.stderr.write(printable(said))


def read_settings(run_dir: Path, uri: str | None) -> SenderSettings:
    """Gather from the journals what the sender must know."""
    from pipeline.tracking.mlflow_settings import resolve_uri
    from pipeline.tracking.provenance import user_name

    starts = [r for r, _ in read_records(run_dir / OPERATIONS) if r.get("op") == "start"]
    if not starts:
        raise PollinateError(f"no history in {run_dir}; run_dir must name a run folder")
    first, last = starts[0], starts[-1]
    address, own = uri or last.get("uri"), own_addresses()
    if address is None:
        raise PollinateError(f"{run_dir} was not tracked by a server; say where to: uri=ADDRESS")
    if uri is None:
        require_own_address(address, own, run_dir, "uri", "or leave the run out")
        address = own_address(address, own) or address
    settings = SenderSettings(
        uri=resolve_uri(address),
        experiment=str(last.get("experiment") or "pollinate"),
        run_dir=str(run_dir.absolute()),
        run_name=str(last.get("name") or run_dir.name),
        key=last["key"],
        user=user_name(),
        start_ms=first["time_ms"],
    )
    return _without_hidden_login(settings)


def _without_hidden_login(settings: SenderSettings) -> SenderSettings:
    """Journals hold no passwords; an http server's may come from MLflow's own variables."""
    if f"{HIDDEN}@" not in settings.uri:
        return settings
    if settings.uri.startswith("http"):
        return replace(settings, uri=settings.uri.replace(f"{HIDDEN}@", ""))
    raise PollinateError(f"the password of {settings.uri} is not stored; give it: uri=ADDRESS")


def find_run_dirs(folder: Path) -> list[Path]:
    """List the run folders below a folder, oldest first."""
    found = sorted(folder.rglob(OPERATIONS), key=lambda path: path.stat().st_mtime)
    if not found:
        raise PollinateError(f"no run folders below {folder}; runs must name their parent folder")
    return [path.parent for path in found]


@dataclass(kw_only=True)
class SyncResult(CommandResult):
    """run_ids: {run folder: id of the MLflow run}."""

    run_ids: dict[Path, str] = field(default_factory=dict)


def run(config: Mapping[str, Any], _: CommandArguments) -> SyncResult:
    one, many = config["run_dir"], config["runs"]
    if (one is None) == (many is None):
        raise UsageError(f"expected run_dir=PATH or runs=PATH, got run_dir={one} runs={many}")
    folders = find_run_dirs(Path(many)) if one is None else [Path(one)]
    sent = SyncResult()
    for folder in folders:
        sent.run_ids[folder] = sync(folder, config["uri"])
        sys.stdout.write(printable(f"{folder}: sent, MLflow run {sent.run_ids[folder]}\n"))
    return sent


call, main = entry_points("sync", run)

if __name__ == "__main__":
    sys.exit(main())
