"""Where explanations go: a folder, and the page of the run that the checkpoint is of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from pipeline.explanation.explanation_page import explanation_page
from pipeline.explanation.findings import Findings, as_json
from pipeline.find_checkpoint import run_folder_of_checkpoint
from pipeline.sync import sync
from pipeline.terminal import say
from pipeline.tracking.journals import OperationJournal, has_ended, read_records
from pipeline.tracking.sender import OPERATIONS
from pollinate.errors import PollinateError, UsageError
from pollinate.files import write_json, write_text
from pollinate.program import shell_command

FOLDER = "explanation"  # in a run folder, and among a run's artifacts
PAGE, FILE = "explain.html", "explain.json"


def explanation_folder(checkpoint: Path, output: str | None, overwrite: bool) -> Path:
    """Return where page and file go, before anything is computed.

    Raises:
        UsageError: the checkpoint is in no run folder, or an earlier explanation is there.
    """
    own = run_folder_of_checkpoint(checkpoint)
    if output is not None:
        folder = Path(output).absolute()
    elif own is not None:
        folder = own.path / FOLDER
    else:
        raise UsageError(
            f"{checkpoint} is in no run folder; say where explanations go: output=FOLDER"
        )
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"output must be a folder, got the file {folder}; choose another")
    there = [name for name in (PAGE, FILE) if (folder / name).exists()]
    if there and not overwrite:
        raise UsageError(
            f"{folder} has an explanation ({', '.join(there)}); choose another folder: "
            "output=FOLDER, or say overwrite=true"
        )
    return folder


def write_findings(found: Findings, folder: Path) -> tuple[Path, Path]:
    """Write the page and the file; return their paths.

    Raises:
        PollinateError: the folder can't be written.
    """
    page, file = folder / PAGE, folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(page, explanation_page(found))
        write_json(file, as_json(found))
    except OSError as error:
        raise PollinateError(
            f"{folder} can't be written: {error.strerror}; choose another: output=FOLDER"
        ) from error
    return page, file


def record_in_run(checkpoint: Path, files: Sequence[Path], console: Console) -> None:
    """Send files to the MLflow run that a checkpoint is of, if it is tracked and has ended."""
    own = run_folder_of_checkpoint(checkpoint)
    if own is None or not all(file.is_relative_to(own.path) for file in files):
        return
    journal = own.path / OPERATIONS
    starts = [record for record, _ in read_records(journal) if record.get("op") == "start"]
    if not starts or not starts[-1].get("uri") or not has_ended(journal):
        return
    operations = OperationJournal(journal)
    try:
        for file in files:
            path = str(file.relative_to(own.path))
            operations.add("artifact", path=path, folder=FOLDER)
        operations.sync()
    finally:
        operations.close()
    try:
        sync(own.path)
    except PollinateError as error:
        later = shell_command("sync", f"run_dir={own.path}")
        say(console, f"note: not yet in MLflow ({error}); later: {later}")
