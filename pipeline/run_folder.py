"""Run folders: one a run, and nothing of a run elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yaml import YAMLError

from pollinate.errors import PollinateError, UsageError
from pollinate.files import as_yaml, refuse_links, replacing, write_json, write_text
from pollinate.foreign import parse_yaml, read_json, read_text

RUNS = Path("runs")
RUN_LOCK = ".run.lock"  # held by the first process of a run that is at work in the folder
TIME = re.compile(r'"time_ms": ?(\d{1,16})\b')  # milliseconds since 1970, in a journal
RUN_DIR_VARIABLE = "POLLINATE_RUN_DIR"  # tells the processes of one run their folder


@dataclass(unsafe_hash=True)  # nobody changes the path
class RunFolder:
    """Where the files of one run are."""

    path: Path

    def __post_init__(self) -> None:
        self.checkpoints = self.path / "checkpoints"  # last.ckpt, previous.ckpt and best.ckpt
        self.plots = self.path / "plots"
        # the best weights and the code that reads them, for MLflow
        self.model = self.path / "model"
        self.config = self.path / "config.yaml"
        self.summary = self.path / "summary.json"
        self.metrics = self.path / "metrics.jsonl"

    def outputs(self, split: str) -> Path:
        """Return the file of what the best weights answer to a split, with ``keep_outputs``."""
        return self.path / f"outputs-{split}.pt"

    def create(self) -> None:
        """Make the folder."""
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            with replacing(self.path / ".writable"):
                pass
            (self.path / ".writable").unlink()
        except OSError as error:
            raise PollinateError(
                f"run folder {self.path} can't be written: {error.strerror}; "
                "give another with run_dir=PATH"
            ) from error

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.yaml, whole or not at all."""
        write_text(self.config, as_yaml(config))

    def read_config(self) -> dict[str, Any]:
        """Return what config.yaml says, as plain values.

        Raises:
            PollinateError: it can't be read, or is no configuration.
        """
        try:
            found = parse_yaml(read_text(self.config))
        except (OSError, ValueError, YAMLError) as error:
            raise PollinateError(f"{self.config} can't be read: {error}") from error
        if not isinstance(found, dict):
            raise PollinateError(f"{self.config} must be a mapping of keys to values")
        return found

    def read_summary(self) -> dict[str, Any]:
        """Return what summary.json says; empty before the run ended.

        Raises:
            PollinateError: it can't be read.
        """
        if not self.summary.exists():
            return {}
        try:
            found = read_json(self.summary)
        except (OSError, ValueError) as error:
            raise PollinateError(f"{self.summary} can't be read: {error}") from error
        return found if isinstance(found, dict) else {}

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json, whole or not at all."""
        write_json(self.summary, summary)


def new_run_folder(name: str, run_dir: str | None) -> RunFolder:
    """Return the folder of a new run: ``run_dir``, or runs/<time>-<name> with a free number."""
    inherited = os.environ.get(RUN_DIR_VARIABLE)
    if inherited:
        return RunFolder(Path(inherited))
    if run_dir is not None:
        return RunFolder(Path(run_dir).absolute())
    return RunFolder(unused_folder(name))


def unused_folder(name: str) -> Path:
    """Return runs/<time>-<name>, with a number if there is one already."""
    stem = RUNS / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    path, number = stem, 1
    while path.exists():
        number += 1
        path = stem.with_name(f"{stem.name}-{number}")
    return path.absolute()


def newest_run_folder() -> RunFolder:
    """Return the run folder below runs/ in which a run was at work last."""
    files = [*RUNS.glob("*/checkpoints/*.ckpt"), *RUNS.glob("*/config.yaml")]
    if not files:
        raise PollinateError(
            f"resume=last found no run below {RUNS.absolute()}; "
            "start a run first, or name one with resume=PATH"
        )
    ages = {path: path.stat().st_mtime for path in files}
    folders = {RUNS / path.relative_to(RUNS).parts[0] for path in files}
    return RunFolder(max(folders, key=lambda folder: last_sign(folder, ages)).absolute())


def last_sign(folder: Path, ages: Mapping[Path, float]) -> float:
    """Return when a run was at work last, as it says itself; by its files if it doesn't.

    Args:
        folder: of the run.
        ages: {file: when it was changed, seconds since 1970}.
    """
    journal = folder / "operations.jsonl"
    text = journal.read_text(encoding="utf-8", errors="replace") if journal.is_file() else ""
    said = [int(time_ms) / 1000 for time_ms in TIME.findall(text)]
    return max(said or [age for file, age in ages.items() if file.is_relative_to(folder)])


# what a run leaves in its folder
OWN_FILES = (
    "config.yaml",
    "summary.json",
    "coefficients.json",
    "tokenizer.json",
    "git.diff",
    "metrics.jsonl",
    "operations.jsonl",
    "system.jsonl",
    "tracking.json",
    "evaluation-*.json",
    "outputs-*.pt",
    "crash*.txt",
    "*profile*.txt",
)
OWN_FOLDERS = ("checkpoints", "plots", "model")
LOCK = ".tracking.lock"


def check_links(folder: Path) -> None:
    """Check that nothing that a run writes is a link, before a run that is there goes on.

    Raises:
        UsageError: something is.
    """
    refuse_links(folder, (*OWN_FILES, *OWN_FOLDERS, LOCK))


def check_not_inside(output: Path, models: Sequence[Path]) -> None:
    for model in models:
        if model.resolve().is_relative_to(output.resolve()):
            raise UsageError(f"output {output} holds {model}, which is merged; choose another")


def clear_previous_run(folder: RunFolder) -> None:
    """Remove what an earlier run left in its folder, and nothing else."""
    for pattern in OWN_FILES:
        for path in folder.path.glob(pattern):
            path.unlink()
    for name in OWN_FOLDERS:
        if (folder.path / name).is_symlink():
            (folder.path / name).unlink()
        shutil.rmtree(folder.path / name, ignore_errors=True)
