"""A crash leaves its evidence: traceback, versions and last batch, in the run folder and in MLflow.

What the user can mend by reading the message, a ``PollinateError``, is no crash; one that was made
of another error after the run had begun is kept too, for its cause.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.configuration.schema import dotted_items
from pipeline.tracking.redact import (
    HIDDEN,
    is_secret,
    passwords_in,
    redact,
    redact_arguments,
    redact_text,
)
from pipeline.tracking.sender import CRASH_REPORTS
from pollinate.errors import PollinateError, crash_file_of, note_crash_file
from pollinate.files import as_yaml, open_own
from pollinate.printable import printable
from pollinate.program import current_folder, running_command
from pollinate.version import VERSION

if TYPE_CHECKING:
    from pipeline.tracking.loggers import RunLogger

CRASHES = Path("runs") / "crashes"  # of commands that have no folder of their own, or not yet
# what a run that crashed, or was killed, before it began may leave in its folder, which stays free
LEFT_BY_A_CRASH = re.compile(
    r"crash(-rank\d+)?\.txt|(metrics|system|operations)\.jsonl|\.?tracking\.(json|lock)|git\.diff"
    r"|\.run\.lock|\.writable|\.(config\.yaml|\.writable|tracking\.json)\.[0-9a-f]+\.\d+\.tmp"
)
PACKAGES = ("torch", "lightning", "torchmetrics", "mlflow", "numpy", "datasets", "transformers")
FOLDERS = ("PWD", "OLDPWD")  # variables of a shell, no passwords
SHORTEST_SECRET = 6  # characters; a shorter value would be hidden in half of all words


def is_crash(error: BaseException, begun: bool) -> bool:
    """Say whether an error leaves evidence.

    Args:
        error: any.
        begun: whether the run had begun, so that what is wrong isn't the command line.
    """
    if isinstance(error, PollinateError):
        return begun and error.__cause__ is not None
    return isinstance(error, Exception)


@contextmanager
def crash_evidence(
    config: Mapping[str, Any],
    folder: Path,
    resume: bool = False,
    wanted: Callable[[], bool] = lambda: True,
) -> Iterator[None]:
    """Keep what tells of a crash inside, which passes on.

    Args:
        config: the composed configuration.
        folder: of the run, which need not exist yet.
        resume: whether the folder holds an earlier part of the run.
        wanted: says whether this process is the one that keeps the run's record.
    """
    try:
        yield
    except Exception as error:
        if is_crash(error, begun=False) and wanted():
            keep_evidence(error, config, folder, resume=resume)
        raise


def keep_evidence(
    error: BaseException,
    config: Mapping[str, Any],
    folder: Path,
    facts: Sequence[str] = (),
    tracker: RunLogger | None = None,
    resume: bool = False,
) -> None:
    """Write the report and track it; the second call for an error does nothing.

    Nothing here raises: the error itself matters more.
    """
    if crash_file_of(error) is not None:
        return
    try:
        written = write_report(error, config, folder, facts)
        if written is not None and written.parent == folder:
            track_crash(config, folder, tracker, resume)
    except Exception as problem:  # noqa: BLE001  # whatever it is, the crash comes first
        said = f"warning: the crash isn't tracked: {redact_text(one_line(problem))}\n"
        sys.stderr.write(printable(said))


def write_report(
    error: BaseException,
    config: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    facts: Sequence[str] = (),
    name: str = "",
) -> Path | None:
    """Write the report where there is room, and note the file on the error.

    Returns:
        The file: in ``folder``, in runs/crashes, or in the system's folder for temporary files;
        None if none can be written.
    """
    rank = process_rank()
    suffix = f"-rank{rank}" if rank else ""
    loose = f"{time.strftime('%Y%m%d-%H%M%S')}-{name or 'crash'}-{os.getpid()}{suffix}.txt"
    places = [] if folder is None else [folder / f"crash{suffix}.txt"]
    places += [CRASHES.absolute() / loose, Path(tempfile.gettempdir(), f"pollinate-{loose}")]
    text = report_text(error, config, facts)
    for path in places:
        if _append(path, text):
            note_crash_file(error, path)
            return path
    return None


def _append(path: Path, text: str) -> bool:
    """Add a report to a file; an earlier session's stays."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        with os.fdopen(open_own(path, flags), "a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return False
    return True


def report_text(
    error: BaseException, config: Mapping[str, Any] | None, facts: Sequence[str] = ()
) -> str:
    words = running_command.get()
    arguments = list(sys.orig_argv if words is None else words)
    lines = [
        f"==== crash of {time.strftime('%Y-%m-%d %H:%M:%S %z')}",
        f"error:     {one_line(error)}",
        f"command:   {shlex.join(redact_arguments(arguments))}",
        f"folder:    {current_folder() or 'removed meanwhile'}",
        f"versions:  {', '.join(versions())}",
        f"process:   {os.getpid()}, rank {process_rank()}, on {socket.gethostname()}",
        *facts,
        "",
        "".join(traceback.format_exception(error)),
    ]
    if config is not None:
        lines += ["configuration", as_yaml(redact(config))]
    return hide_secrets("\n".join(lines), config or {}) + "\n"


def one_line(error: BaseException) -> str:
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def versions() -> Iterator[str]:
    """Yield what a crash may depend on: python, packages, the system."""
    yield f"python {platform.python_version()}"
    yield f"pollinate {VERSION}"
    for name in PACKAGES:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    yield platform.platform()
    cuda: Any = getattr(sys.modules.get("torch"), "cuda", None)  # looked up: never import it here
    if cuda is not None and cuda.is_available():
        yield cuda.get_device_name()


def hide_secrets(text: str, config: Mapping[str, Any]) -> str:
    words = [word.partition("=") for word in running_command.get() or ()]
    variables = [(name, value) for name, value in os.environ.items() if name not in FOLDERS]
    pairs = [*dotted_items(config), *variables, *((key, value) for key, _, value in words)]
    texts = [(key, value) for key, value in pairs if isinstance(value, str)]
    secrets = {value for key, value in texts if is_secret(key)}
    secrets |= {one for _, value in texts for one in passwords_in(value)}
    for value in sorted(secrets, key=len, reverse=True):
        if len(value) >= SHORTEST_SECRET:
            text = text.replace(value, HIDDEN)
    return redact_text(text)


def process_rank() -> int:
    """Return this process' number among those of the run, 0 for the first or the only one."""
    distributed: Any = getattr(sys.modules.get("torch"), "distributed", None)
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank())
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
    found = next((os.environ[name] for name in names if name in os.environ), "0")
    return int(found) if found.isdecimal() else 0


def track_crash(
    config: Mapping[str, Any], folder: Path, tracker: RunLogger | None, resume: bool
) -> None:
    """Send the reports of all processes to the run in MLflow; one opened here ends as failed."""
    if tracker is not None:
        for path in crash_files(folder):
            tracker.log_artifact(path)
        return
    tracker = open_tracker(config, folder, resume or has_crashed_before(folder))
    try:
        tracker.log_params({name: value for name, value in config.items() if name != "run_dir"})
        track_crash(config, folder, tracker, resume)
    finally:
        tracker.close("failed")


def open_tracker(config: Mapping[str, Any], folder: Path, resume: bool) -> RunLogger:
    """Return what ``tracking`` configures."""
    from pollinate.instantiate import instantiate

    options = {"run_dir": folder, "run_name": config["name"], "resume": resume}
    tracker: RunLogger = instantiate(
        config["tracking"], config["allow_targets"], "tracking", **options
    )
    return tracker


def crash_files(folder: Path) -> list[Path]:
    return sorted(folder.glob(CRASH_REPORTS))


def has_crashed_before(folder: Path) -> bool:
    """Say whether all that a folder holds is of a run that crashed, or was killed, before it began.

    The next run may have the folder; its history goes on with the same run in MLflow.
    """
    found = list(folder.iterdir()) if folder.is_dir() else []
    return bool(found) and all(map(is_left_by_a_crash, found))


def is_left_by_a_crash(path: Path) -> bool:
    """Say whether a crash before a run begins may leave this in its folder."""
    if path.is_symlink():
        return False
    if path.is_dir():
        return path.name == "checkpoints" and not any(path.iterdir())
    return bool(LEFT_BY_A_CRASH.fullmatch(path.name))
