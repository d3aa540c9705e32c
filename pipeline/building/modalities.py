"""A configuration becomes modalities: how raw values become tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datamodules.modalities.audio import AudioModality
from datamodules.modalities.base import Modality
from datamodules.modalities.image import ImageModality
from datamodules.modalities.text import TextModality
from lightning_modules.encoders.pretrained import PretrainedEncoder
from lightning_modules.tasks.base import Task
from pipeline.errors import UsageError
from pipeline.instantiate import find_target, instantiate
from pipeline.taken_over import tokenizer_of

Config = Mapping[str, Any]

MODALITIES: dict[str, type[Modality]] = {
    "audio": AudioModality,
    "image": ImageModality,
    "text": TextModality,
}


def build_modalities(
    config: Config, tasks: Mapping[str, Task], learnt: Mapping[str, Any] | None = None
) -> dict[str, Modality]:
    """Return {modality: how its raw values become tensors} for those that the data have.

    Args:
        config: a composed configuration.
        tasks: what the data are for.
        learnt: of the run to go on with, which knows what its encoders brought along.
    """
    used = {m for spec in config["data"]["datasets"].values() for m in spec["inputs"]}
    missing = sorted(used - set(MODALITIES))
    if missing:
        raise UsageError(
            f"data uses the modalities {', '.join(missing)}; supported are {', '.join(MODALITIES)}"
        )
    words = any(task.view.words for task in tasks.values())
    known: dict[str, dict[str, Any]] = {"text": {"words": words}}  # what only a run knows
    node = config["data"]["image"].get("augment") if "image" in used else None
    if node is not None:
        transform = instantiate(node, config["allow_targets"], "data.image.augment")
        known["image"] = {"augment": transform}
    if "text" in used:
        chosen = learnt is None and config["data"]["text"].get("tokenizer")
        known["text"]["tokenizer"] = tokenizer_of(config) if chosen else None
    for name in used:
        found = brought(config, name, learnt)
        if found:
            known.setdefault(name, {})["brought"] = found
    return {
        name: MODALITIES[name](**{**config["data"][name], **known.get(name, {})})
        for name in sorted(used)
    }


def brought(config: Config, modality: str, learnt: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a modality's encoder brings along, empty for one that isn't pre-trained.

    Data are also loaded where no encoder is chosen, to be inspected.

    Args:
        config: a composed configuration.
        modality: whose encoder.
        learnt: of the run to go on with, None: a new one, whose model is asked.
    """
    if learnt is not None:
        return dict(learnt["modalities"][modality].get("brought", {}))
    node, key = config.get("encoder", {}).get(modality), f"encoder.{modality}"
    if node is None:
        return {}
    kind = find_target(node["_target_"], config["allow_targets"], key)
    return kind.brings(node) if issubclass(kind, PretrainedEncoder) else {}


def restored(
    config: Config, tasks: Mapping[str, Task], learnt: Config
) -> tuple[Mapping[str, Task], dict[str, Modality]]:
    """Return tasks and modalities with the vocabularies that a run learnt."""
    modalities = build_modalities(config, tasks, learnt)
    for name, task in tasks.items():
        task.load_state_dict(learnt["tasks"][name])
    for name, modality in modalities.items():
        modality.load_state_dict(learnt["modalities"][name])
    return tasks, modalities
