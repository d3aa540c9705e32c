"""Finds the checkpoint that a configuration names, and what a run inherits from another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_modules.checkpoints import BEST, read_spec
from pipeline.run_folder import RunFolder
from pipeline.serving.model_folder import DATA_FOLDER, WEIGHTS
from pipeline.tracking.mlflow_settings import DATABASE
from pollinate.errors import PollinateError, UsageError
from pollinate.suggest import hint

RUN_ID = re.compile(r"[0-9a-f]{32}")
REGISTERED = "models:/"


def find_checkpoint(what: str, uri: str) -> Path:
    """Return a checkpoint's path.

    Args:
        what: a checkpoint, a run folder (its best.ckpt is meant), an MLflow run id, or a registered
            model: ``models:/NAME/VERSION``.
        uri: MLflow's address, where a run id or a model is looked up.
    """
    if what.startswith(REGISTERED):
        return registered_checkpoint(what, uri)
    path = Path(what).absolute()
    if path.is_file():
        return path
    if path.is_dir():
        return best_checkpoint_in(path)
    if RUN_ID.fullmatch(what):
        return best_checkpoint_in(mlflow_run_folder(what, uri))
    raise PollinateError(
        f"checkpoint must be a file, a run folder, an MLflow run id or {REGISTERED}NAME/VERSION; "
        f"{what} is none of them"
    )


def best_checkpoint_in(folder: Path) -> Path:
    places = [RunFolder(folder).checkpoints / BEST, folder / BEST]
    for place in places:
        if place.is_file():
            return place
    others = ", ".join(str(path) for path in sorted(folder.rglob("*.ckpt"))) or "no checkpoint"
    raise PollinateError(f"there is no {places[0]}; {folder} has {others}: name a file")


def mlflow_run_folder(run_id: str, uri: str) -> Path:
    from pipeline.tracking.mlflow_lookup import find_run  # imports mlflow

    folder = find_run(uri, run_id).run_dir
    if folder is None:
        raise PollinateError(
            f"the folder of MLflow run {run_id} is not on this machine; download "
            f"checkpoints/{BEST} from the run's page and give its path"
        )
    return folder


def registered_checkpoint(what: str, uri: str) -> Path:
    """Return the weights of a registered model, which the store of artifacts may have to send."""
    from pipeline.tracking.mlflow_lookup import find_model  # imports mlflow

    return find_model(uri, what) / DATA_FOLDER / WEIGHTS


def run_folder_of_checkpoint(checkpoint: Path) -> RunFolder | None:
    folder = RunFolder(checkpoint.absolute().parent.parent)
    return folder if checkpoint.parent.name == "checkpoints" and folder.config.is_file() else None


def inherited_tokenizer(config: Mapping[str, Any]) -> str:
    """Return what ``data.text.tokenizer`` names, in the format of tokenizer.json."""
    what = config["data"]["text"]["tokenizer"]
    path = Path(what).expanduser()
    if path.suffix == ".json" and path.is_file():
        return path.read_text(encoding="utf-8")
    known = spec_of_model(what, config)["learnt"]["modalities"].get("text", {})
    if "tokenizer" not in known:
        found = "that of a pre-trained encoder" if known else "no texts"
        raise UsageError(
            f"data.text.tokenizer must be a run that trained its own tokenizer, and {what} "
            f"has {found}; choose the same encoder/text, which brings its tokenizer"
        )
    return str(known["tokenizer"])


def inherited_labels(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Return what the run that a task's ``labels_of`` names has learnt of the task's labels."""
    node = config["data"]["tasks"][task]
    what, key = node["labels_of"], f"data.tasks.{task}"
    spec = spec_of_model(what, config)
    known = spec["learnt"]["tasks"]
    if task not in known:
        raise UsageError(
            f"{key}.labels_of: {what} has no task {task!r}{hint(task, known, 'its tasks')}; call "
            "the task as it is called there"
        )
    own, there = (
        one["_target_"] for one in (node["type"], spec["config"]["data"]["tasks"][task]["type"])
    )
    if own != there:
        raise UsageError(f"{key}.type must be that of {what}, {there}, got {own}")
    return dict(known[task])


def spec_of_model(what: str, config: Mapping[str, Any]) -> dict[str, Any]:
    uri = (config.get("tracking") or {}).get("uri") or DATABASE
    return read_spec(find_checkpoint(what, uri))
