"""Finds the checkpoint that a command's ``checkpoint=`` names."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.checkpoints import BEST
from pipeline.errors import PollinateError
from pipeline.runs import RunFolder
from pipeline.serving.folder import DATA, WEIGHTS

RUN_ID = re.compile(r"[0-9a-f]{32}")
REGISTERED = "models:/"


def find_checkpoint(what: str, uri: str) -> Path:
    """Return a checkpoint's path.

    Args:
        what: a checkpoint, a run folder (its best.ckpt is meant), an MLflow run id, or a registered
            model: ``models:/NAME/VERSION``.
        uri: MLflow's address, where a run id or a model is looked up.

    Raises:
        PollinateError: nothing of that name is there, or the run has no best.ckpt.
    """
    if what.startswith(REGISTERED):
        return checkpoint_of_model(what, uri)
    path = Path(what).absolute()
    if path.is_file():
        return path
    if path.is_dir():
        return best_of(path)
    if RUN_ID.fullmatch(what):
        return best_of(folder_of_run(what, uri))
    raise PollinateError(
        f"checkpoint must be a file, a run folder, an MLflow run id or {REGISTERED}NAME/VERSION; "
        f"{what} is none of them"
    )


def best_of(folder: Path) -> Path:
    """Return the best checkpoint of a run folder, or of its folder of checkpoints."""
    places = [RunFolder(folder).checkpoints / BEST, folder / BEST]
    for place in places:
        if place.is_file():
            return place
    others = ", ".join(str(path) for path in sorted(folder.rglob("*.ckpt"))) or "no checkpoint"
    raise PollinateError(f"there is no {places[0]}; {folder} has {others}: name a file")


def folder_of_run(run_id: str, uri: str) -> Path:
    """Return the run folder of an MLflow run."""
    from pipeline.tracking.lookup import find_run  # imports mlflow

    folder = find_run(uri, run_id).run_dir
    if folder is None:
        raise PollinateError(
            f"the folder of MLflow run {run_id} is not on this machine; download "
            f"checkpoints/{BEST} from the run's page and give its path"
        )
    return folder


def checkpoint_of_model(what: str, uri: str) -> Path:
    """Return the weights of a registered model, which the store of artifacts may have to send."""
    from pipeline.tracking.lookup import find_model  # imports mlflow

    return find_model(uri, what) / DATA / WEIGHTS


def run_folder_of(checkpoint: Path) -> RunFolder | None:
    """Return the run folder that a checkpoint lies in, None if it lies elsewhere."""
    folder = RunFolder(checkpoint.absolute().parent.parent)
    return folder if checkpoint.parent.name == "checkpoints" and folder.config.is_file() else None
