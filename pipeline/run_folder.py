"""Run folders: one a run, and nothing of a run elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from pollinate.errors import PollinateError
from pollinate.files import write_json, write_text

RUNS = Path("runs")
RUN_DIR_VARIABLE = "POLLINATE_RUN_DIR"  # tells the processes of one run their folder


@dataclass(frozen=True)
class RunFolder:
    """Where the files of one run are."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of last.ckpt, previous.ckpt and best.ckpt."""
        return self.path / "checkpoints"

    @property
    def plots(self) -> Path:
        return self.path / "plots"

    @property
    def model(self) -> Path:
        """Folder of the best weights and the code that reads them, for MLflow."""
        return self.path / "model"

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    def create(self) -> None:
        """Make the folder."""
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            probe = self.path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise PollinateError(
                f"run folder {self.path} can't be written: {error.strerror}; "
                "give another with run_dir=PATH"
            ) from error

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.yaml, whole or not at all."""
        write_text(self.config, OmegaConf.to_yaml(OmegaConf.create(dict(config))))

    def read_config(self) -> dict[str, Any]:
        return cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.load(self.config)))

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
    newest = max(files, key=lambda path: path.stat().st_mtime_ns)
    return RunFolder((RUNS / newest.relative_to(RUNS).parts[0]).absolute())
