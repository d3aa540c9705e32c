"""Finds the checkpoint to go on from, and the configuration that fits it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_modules.checkpoints import (
    BEST,
    LAST,
    MERGED_KEY,
    PREVIOUS,
    CorruptCheckpointError,
    newest_intact,
    read_spec,
    require_training_config,
    verify_checkpoint,
)
from pipeline.configuration.method_rules import trainer_problems
from pipeline.configuration.schema import changed_values, dotted_items
from pipeline.find_checkpoint import RUN_ID
from pipeline.run_folder import RunFolder, check_links, new_run_folder, newest_run_folder
from pipeline.tracking.addresses import own_addresses, require_own_address
from pipeline.tracking.redact import HIDDEN
from pollinate.errors import PollinateError, UsageError
from pollinate.suggest import raise_all

# What the saved weights, optimizer state and order of rows depend on.
FIXED_KEYS = (
    "data",
    "tasks",
    "labels",
    "model",
    "encoder",
    "fusion",
    "trunk",
    "dim",
    "balancer",
    "sampler",
    "transfer",
    "optimizer",
    "schedule",
    "seed",
    "ema_decay",
    "trainer.accumulate_grad_batches",
    "trainer.averaging",
)


@dataclass
class ResumePoint:
    """A run to go on with.

    checkpoint: where to go on from; None: it was stopped before its first checkpoint.
    learnt: vocabularies and tokenizer; None: as for checkpoint.
    sources: {name: digest} of the models that knowledge was taken from.
    """

    folder: RunFolder
    checkpoint: Path | None
    config: dict[str, Any]
    learnt: dict[str, Any] | None
    sources: dict[str, str] = field(default_factory=dict)


def find_resume_point(config: Mapping[str, Any], given: Sequence[str]) -> ResumePoint:
    """Find what ``resume=...`` names.

    The run's own configuration is used; keys given on the command line replace its values.

    Args:
        config: the composed configuration, with ``find_resume_point`` set.
        given: keys that the command line sets, like ``trainer.max_epochs`` or ``balancer``.

    Raises:
        PollinateError: nothing to resume is there, or no checkpoint of it is whole.
        UsageError: a given key doesn't fit the checkpoint.
    """
    folder, checkpoint = find_run_and_checkpoint(str(config["resume"]), config)
    if checkpoint is None:
        saved: dict[str, Any] = {"config": folder.read_config(), "learnt": None}
    else:
        saved = read_spec(checkpoint)
        if MERGED_KEY in saved:
            raise UsageError(
                f"{checkpoint} was merged from several models, so there is no training to "
                "resume; start a new run"
            )
        require_training_config(saved, checkpoint)
    if saved["config"].get("model") == "linear" and not is_unfinished(folder):
        raise UsageError(
            f"{checkpoint or folder.path} is a linear model, which is fitted at once, so there is "
            "no training to resume; start a new run"
        )
    merged = merge_given_keys(saved["config"], config, given)
    changed = changed_fixed_keys(saved["config"], merged)
    if changed:
        raise UsageError(
            f"the configuration doesn't fit {checkpoint or folder.path}: {'; '.join(changed)}. "
            "Leave these keys out, or start a new run without resume"
        )
    if not isinstance(merged.get("tracking"), dict):
        raise PollinateError(f"{checkpoint or folder.path} doesn't say how it is tracked")
    raise_all(list(trainer_problems(merged.get("trainer"))))
    check_links(folder.path)
    require_own_address(
        merged["tracking"].get("uri"),
        own_addresses(config["tracking"]),
        checkpoint or folder.path,
        "tracking.uri",
        "to keep the run here, tracking=none",
    )
    sources = dict(saved.get("sources", {}))
    return ResumePoint(folder, checkpoint, require_secrets(merged), saved["learnt"], sources)


def is_unfinished(folder: RunFolder) -> bool:
    """Say whether a linear model's run was stopped before its end: it is fitted anew."""
    try:
        return folder.config.is_file() and folder.read_summary().get("status") != "finished"
    except PollinateError:  # torn
        return True


def find_run_and_checkpoint(what: str, config: Mapping[str, Any]) -> tuple[RunFolder, Path | None]:
    """Return run folder and checkpoint for ``last``, a path, or an MLflow run id."""
    if what == "last":
        run_dir = config["run_dir"]
        folder = newest_run_folder() if run_dir is None else RunFolder(Path(run_dir).absolute())
        return folder, newest_checkpoint(folder)
    path = Path(what).expanduser().absolute()
    if path.is_dir():
        return RunFolder(path), newest_checkpoint(RunFolder(path))
    if path.is_file() or path.suffix == ".ckpt":
        return RunFolder(path.parent.parent), intact_checkpoint(path)
    if RUN_ID.fullmatch(what):
        return find_mlflow_run(what, config)
    raise UsageError(
        f"resume must be last, a checkpoint, a run folder or an MLflow run id; {what} is none"
    )


def find_mlflow_run(run_id: str, config: Mapping[str, Any]) -> tuple[RunFolder, Path | None]:
    """Return folder and checkpoint of an MLflow run, downloaded if its folder isn't here."""
    from pipeline.tracking.mlflow_lookup import find_run  # imports mlflow

    uri = config["tracking"].get("uri")
    if uri is None:
        raise UsageError("resume by an MLflow run id needs a tracking server; set tracking=mlflow")
    found = find_run(uri, run_id)
    if found.run_dir is not None:
        return RunFolder(found.run_dir), newest_checkpoint(RunFolder(found.run_dir))
    folder = new_run_folder(config["name"], config["run_dir"])
    return folder, found.download(folder.path)


def newest_checkpoint(folder: RunFolder) -> Path | None:
    """Return a run's newest whole checkpoint; None if it has a config but no checkpoint yet."""
    names = (LAST, PREVIOUS, BEST)
    if folder.config.exists() and not any((folder.checkpoints / name).exists() for name in names):
        return None
    return newest_intact(folder.checkpoints / name for name in names)


def intact_checkpoint(path: Path) -> Path:
    """Return the checkpoint itself if it is whole, else the newest whole one beside it."""
    try:
        verify_checkpoint(path)
    except CorruptCheckpointError:
        return newest_intact(path.parent.glob("*.ckpt"))
    except FileNotFoundError as error:
        raise PollinateError(f"there is no checkpoint {path}; give an existing file") from error
    return path


def merge_given_keys(
    saved: Mapping[str, Any], composed: Mapping[str, Any], given: Sequence[str]
) -> dict[str, Any]:
    """Return the saved configuration with the given keys taken from the composed one."""
    merged: dict[str, Any] = copy.deepcopy(dict(saved))
    for key in [*given, "allow_targets", "resume"]:
        parts = key.replace("/", ".").split(".")
        source: Any = composed
        target: Any = merged
        for part in parts[:-1]:
            source, target = source.get(part, {}), target.setdefault(part, {})
        if parts[-1] not in source:
            raise UsageError(
                f"resume uses the run's own configuration, in which single keys can be "
                f"changed, and {key} isn't one; leave it out, or start a new run without resume"
            )
        target[parts[-1]] = copy.deepcopy(source[parts[-1]])
    return merged


def require_secrets(config: dict[str, Any]) -> dict[str, Any]:
    """Check that no secret is needed that was hidden when the configuration was stored.

    A login in the address of a tracking server may come from MLflow's own variables.
    """
    tracking = config["tracking"]
    if str(tracking.get("uri")).startswith("http"):
        tracking["uri"] = tracking["uri"].replace(f"{HIDDEN}@", "")
    hidden = [
        key for key, value in dotted_items(config) if isinstance(value, str) and HIDDEN in value
    ]
    if hidden:
        raise UsageError(
            f"{', '.join(hidden)} is secret and was not stored; give it again: {hidden[0]}=VALUE"
        )
    return config


def changed_fixed_keys(saved: Mapping[str, Any], merged: Mapping[str, Any]) -> list[str]:
    """Return ``key is NEW, the checkpoint has OLD`` for each fixed key that differs."""
    return changed_values(
        saved,
        merged,
        "the checkpoint has",
        lambda key: any(key == fixed or key.startswith(f"{fixed}.") for fixed in FIXED_KEYS),
    )
